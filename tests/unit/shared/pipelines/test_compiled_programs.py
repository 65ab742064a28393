"""Generated code does what an interpreter does that was written for the tests: rows, problems and causes are equal."""

from datetime import UTC, datetime

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from shared.pipelines.compiling import compile_pipeline
from shared.pipelines.model import Pipeline
from shared.pipelines.program import Attributes, Made, RowProblem
from support.generated_pipelines import csv_rows, payloads, pipelines
from support.interpreted import Interpreter
from support.interpreted_places import Interpreted

ABOUT = Attributes("s", datetime(2026, 3, 1, 9, 30, 5, tzinfo=UTC), "id-1", row=3, file="f.csv")
slowly = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def told(problems: tuple[RowProblem, ...]) -> list[tuple[str, str, str]]:
    return [(each.pointer, each.code, each.cause) for each in problems]


def assert_same(made: Made, expected: Interpreted) -> None:
    assert told(made.problems) == expected.problems[:100]
    assert told(made.notes) == expected.notes[:100]
    assert [tuple(row) for row in made.rows] == expected.rows
    assert (set(made.gone), made.matched) == (expected.gone, expected.matched)


@slowly
@given(pipelines(), st.lists(payloads, min_size=1, max_size=4), st.sampled_from(("", "", "x", "10")))
def test_a_json_event_becomes_what_an_interpreter_makes_of_it(
    pipeline: Pipeline, events: list[object], kind: str
) -> None:
    program = compile_pipeline(pipeline)
    about = ABOUT._replace(type=kind)

    note(repr(pipeline.table))
    for event in events:
        note(repr(event))
        assert_same(program.run(event, about), Interpreter(pipeline, about, event).run())


@slowly
@given(pipelines(), st.lists(csv_rows(), min_size=1, max_size=3))
def test_a_csv_row_becomes_what_an_interpreter_makes_of_it(
    pipeline: Pipeline, rows: list[tuple[tuple[str, ...], tuple[str, ...]]]
) -> None:
    program = compile_pipeline(pipeline)

    note(repr(pipeline.table))
    for header, fields in rows:
        note(repr((header, fields)))
        expected = Interpreter(pipeline, ABOUT, header=header, fields=fields).run()
        assert_same(program.run_row(header, fields, ABOUT), expected)
