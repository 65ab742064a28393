"""Pipeline files tried on events: what is wrong with them, their program, and the rows that it would make. Pure."""

from collections.abc import Sequence

import msgspec

from shared.pipelines.bundle import make_bundle
from shared.pipelines.compiling import TEST_KEY, CompileError, PipelineProgram, compile_pipeline
from shared.pipelines.document.problems import FileProblem, ReadFile, has_errors
from shared.pipelines.document.reading import read_pipeline
from shared.pipelines.linting.pipeline import lint
from shared.pipelines.model import Pipeline, Table
from shared.pipelines.program import Made
from shared.pipelines.trials.expectations import KnownOfEvent
from shared.pipelines.trials.samples import SampleEvent, run_sample
from shared.pipelines.trials.testing import attributes_of
from shared.pipelines.values.texts import text_of


class TriedRow(msgspec.Struct, frozen=True):
    """A row that an event would make: its values as exact texts, None where there is none.

    `gone`: it is a tombstone, which says that its key is gone.
    """

    table: str
    gone: bool
    values: dict[str, str | None]


def check_files(name: str, read: ReadFile) -> tuple[Pipeline | None, tuple[FileProblem, ...]]:
    """Return the pipeline of a file, or None, and what is wrong or doubtful in the file and in those that it names."""
    pipeline, problems = read_pipeline(name, read)
    if pipeline is not None and not has_errors(problems):
        problems = (*problems, *lint(pipeline, read, name))
    return pipeline, problems


def compile_files(name: str, pipeline: Pipeline, read: ReadFile) -> PipelineProgram:
    """Return the program of a pipeline file without errors. Raises CompileError.

    Its masks have a key of their own: with that of a stack they would tell who is behind a stored value.
    """
    bundle, problems = make_bundle(name, read)
    if bundle is None:
        raise CompileError(problems[0].detail if problems else "has errors")
    return compile_pipeline(pipeline, bundle.contents, mask_key=TEST_KEY)


def try_event(program: PipelineProgram, event: SampleEvent, known: KnownOfEvent, *, sequence: int = 0) -> Made:
    """Return what an event would make; `sequence` counts the events that are tried together."""
    return run_sample(program, event, attributes_of(program.pipeline, event, known, sequence=sequence))


def tried_rows(tables: Sequence[Table], made: Made) -> tuple[TriedRow, ...]:
    """Return the rows that an event makes, in the order in which it makes them."""
    return tuple(
        TriedRow(
            tables[row.table].name,
            position in made.gone,
            {
                name: None if value is None else text_of(value)
                for name, value in zip(tables[row.table].columns, row.values, strict=True)
            },
        )
        for position, row in enumerate(made.rows)
    )
