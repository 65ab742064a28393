"""The examples that come with the project: each passes its lint and its tests, which reach every column."""

from pathlib import Path

import pytest

from shared.pipelines.bundle import make_bundle
from shared.pipelines.compiling import compile_pipeline
from shared.pipelines.document.reading import read_pipeline
from shared.pipelines.linting.pipeline import lint, lint_together
from shared.pipelines.model import Pipeline
from shared.pipelines.proposals.inferring import infer_pipeline
from shared.pipelines.trials.expectations import PipelineTest, read_tests
from shared.pipelines.trials.samples import read_events, run_sample
from shared.pipelines.trials.testing import attributes_of, coverage_warnings, run_tests

EXAMPLES = Path(__file__).parents[4] / "pipelines" / "examples"
NAMES = sorted(path.name for path in EXAMPLES.glob("*.toml") if not path.name.endswith(".test.toml"))
TESTS_MIN = 40


def read(name: str) -> bytes | None:
    path = EXAMPLES / name
    return path.read_bytes() if path.is_file() else None


def pipeline_of(name: str) -> Pipeline:
    pipeline, problems = read_pipeline(name, read)
    assert problems == ()
    assert pipeline is not None
    return pipeline


def stated_tests(name: str) -> tuple[PipelineTest, ...]:
    return read_tests((EXAMPLES / name.replace(".toml", ".test.toml")).read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_an_example_has_no_problem_and_is_a_version(name: str) -> None:
    assert lint(pipeline_of(name), read, name) == ()
    bundle, problems = make_bundle(name, read)
    assert (bundle is not None, problems) == (True, ())


def test_all_examples_may_be_active_together() -> None:
    assert lint_together([pipeline_of(name) for name in NAMES]) == ()


@pytest.mark.parametrize("name", NAMES)
def test_an_example_passes_its_tests_which_reach_every_table_and_column(name: str) -> None:
    bundle, _ = make_bundle(name, read)
    assert bundle is not None
    pipeline = pipeline_of(name)

    results = run_tests(pipeline, compile_pipeline(pipeline, bundle.contents), stated_tests(name), read)

    assert {result.name: result.problems for result in results if result.problems} == {}
    assert coverage_warnings(pipeline, results) == ()


def test_the_examples_have_many_tests() -> None:
    assert sum(len(stated_tests(name)) for name in NAMES) >= TESTS_MIN


@pytest.mark.parametrize("name", [name.removesuffix(".toml") for name in NAMES])
def test_what_is_proposed_for_the_samples_of_an_example_takes_them(name: str) -> None:
    files = sorted((EXAMPLES / "samples" / name).iterdir())
    events = [event for file in files for event in read_events(file.name, file.read_bytes())]
    text = infer_pipeline(events, name=name, source=name)
    pipeline, _ = read_pipeline("proposed.toml", lambda _: text.encode())
    assert pipeline is not None
    program = compile_pipeline(pipeline)

    problems = {
        event.label: [(problem.pointer, problem.code) for problem in made.problems]
        for event in events
        for made in [run_sample(program, event, attributes_of(pipeline, event))]
        if made.problems
    }

    assert problems == {}
