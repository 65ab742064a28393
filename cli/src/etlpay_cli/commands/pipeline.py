"""`etlpay pipeline`: checks, tests and tries pipeline files, and proposes one. All of it runs without a stack."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.text import Text

from etlpay_cli import console
from etlpay_cli import pipeline_output as output
from etlpay_cli.commands.invocation import refuse
from etlpay_cli.errors import ERROR, USAGE
from etlpay_cli.pipeline_dbt import dbt_sources
from etlpay_cli.pipeline_files import (
    PipelineFile,
    UnreadableError,
    compile_file,
    find_pipelines,
    problems_together,
    read_file,
    tests_of,
    write_file,
)
from etlpay_cli.pipeline_tests import TestedFile, run_tests_of
from shared.pipelines.document.problems import FileProblem, has_errors
from shared.pipelines.proposals.guessing import slug
from shared.pipelines.proposals.inferring import InferError, infer_pipeline
from shared.pipelines.trials.expectations import KnownOfEvent
from shared.pipelines.trials.samples import SampleError, SampleEvent, read_events, run_sample
from shared.pipelines.trials.shown import row_text
from shared.pipelines.trials.testing import attributes_of
from shared.pipelines.values.texts import NO_VALUE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shared.pipelines.model import Table
    from shared.pipelines.program import Made
    from shared.pipelines.trials.expectations import TextRow

app = typer.Typer(
    name="pipeline", help="Check, test and try pipeline files; plan and apply them.", no_args_is_help=True
)

PathArgument = Annotated[Path, typer.Argument(help="A pipeline file, or a folder of them.")]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]
NameOption = Annotated[str | None, typer.Option(help="The name of the pipeline; else that of the first file.")]
SourceOption = Annotated[str | None, typer.Option(help="The source of the events; else the name.")]

_STDIN = "-"
_DEFAULT = Path("pipelines")


@app.command()
def lint(path: PathArgument = _DEFAULT, *, as_json: JsonOption = False) -> None:
    """Check pipeline files, and say of each problem where it stands. Exit code 1: there are errors."""
    with _refusing():
        files = [read_file(each) for each in find_pipelines(path)]
        problems = [(each.path.parent, problem) for each in files for problem in _problems_of(each)]
        problems += ((files[0].path.parent, problem) for problem in problems_together(files))
    if as_json:
        console.print_json({"files": len(files), "problems": [_problem_document(*each) for each in problems]})
    else:
        for folder, problem in problems:
            output.show_file_problems(folder, [problem])
        errors = sum(problem.level == "error" for _, problem in problems)
        console.stdout.print(_counted(len(files), "file"), _counted(errors, "error"), sep=", ")
    _end(failed=has_errors(tuple(problem for _, problem in problems)))


@app.command(name="test")
def run(
    path: PathArgument = _DEFAULT,
    *,
    only: Annotated[str | None, typer.Option("-k", help="Only tests whose name holds this text.")] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Write what came out into tests that state nothing.")
    ] = False,
    junit: Annotated[Path | None, typer.Option(help="A file for the results as JUnit's XML.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the tests that stand beside pipeline files. Exit code 1: a test failed, or a file has errors."""
    with _refusing():
        tested = [run_tests_of(read_file(each), only, update=update) for each in find_pipelines(path)]
        if junit is not None:
            suites = [(each.file.path.name, each.results) for each in tested]
            write_file(junit, output.junit_text(suites))
    if as_json:
        console.print_json({"files": [_tested_document(each) for each in tested]})
    else:
        _show_tested(tested)
    _end(failed=any(each.failed for each in tested))


@app.command(name="try")
def attempt(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A pipeline file.")],
    event: Annotated[str, typer.Argument(help="A file of events, or - for JSON on stdin.")] = _STDIN,
    *,
    source: SourceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the rows that events would make, or the problems for which they make none. Exit code 1: there are some."""
    with _refusing():
        file = read_file(path)
        if file.pipeline is None or not file.is_sound:
            output.show_file_problems(path.parent, file.problems)
            raise typer.Exit(ERROR)
        tried = list(_try_events(file, _events_of(event), source))
    tables = file.pipeline.table
    if as_json:
        console.print_json({"events": [_made_document(tables, *each) for each in tried]})
    else:
        for label, made in tried:
            _show_made(tables, label, made)
    _end(failed=any(made.problems for _, made in tried))


@app.command()
def infer(
    events: Annotated[list[str], typer.Argument(help="Files of events, or - for JSON on stdin.")],
    *,
    name: NameOption = None,
    source: SourceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a proposal of a pipeline file for events. Nothing is written; read every line before you use it."""
    with _refusing():
        taken = [event for each in events for event in _events_of(each)]
        first = "events" if events[0] == _STDIN else Path(events[0]).name.partition(".")[0]
        named = name or slug(first)
        text = infer_pipeline(taken, name=named, source=source or named)
    if as_json:
        console.print_json({"events": len(taken), "pipeline": text})
    else:
        sys.stdout.write(text)


@app.command()
def dbt(path: PathArgument = _DEFAULT) -> None:
    """Print `sources.yml` for dbt: the views of pipeline files, with freshness. Exit code 1: there are errors."""
    with _refusing():
        files = [read_file(each) for each in find_pipelines(path)]
    for each in files:
        output.show_file_problems(each.path.parent, [problem for problem in each.problems if problem.level == "error"])
    if not all(each.is_sound for each in files):
        raise typer.Exit(ERROR)
    sys.stdout.write(dbt_sources(each.pipeline for each in files if each.pipeline is not None))


def _problems_of(file: PipelineFile) -> tuple[FileProblem, ...]:
    """Return the problems of a file and of its tests, which `test` would tell as well."""
    return (*file.problems, *tests_of(file)[1])


def _events_of(name: str) -> tuple[SampleEvent, ...]:
    if name == _STDIN:
        return _events_of_stdin(sys.stdin.buffer.read())
    try:
        return read_events(name, Path(name).read_bytes())
    except OSError as error:
        raise UnreadableError(f"{name}: {error.strerror or 'cannot be read'}") from None


def _events_of_stdin(data: bytes) -> tuple[SampleEvent, ...]:
    """Return one JSON document, or one on each line."""
    try:
        return read_events("stdin.json", data)
    except SampleError:
        if data.count(b"\n") > 1:
            return read_events("stdin.ndjson", data)
        raise


def _try_events(file: PipelineFile, events: Sequence[SampleEvent], source: str | None) -> Iterator[tuple[str, Made]]:
    program = compile_file(file)
    for sequence, event in enumerate(events):
        about = attributes_of(program.pipeline, event, KnownOfEvent(source=source), sequence=sequence)
        yield event.label, run_sample(program, event, about)


def _show_made(tables: Sequence[Table], label: str, made: Made) -> None:
    console.stdout.print(Text(label, style="underline"))
    output.show_row_problems("error", made.problems, style="red")
    output.show_row_problems("note", made.notes, style="yellow")
    if not made.matched:
        console.stdout.print("no table takes this event")
    for name, rows in _rows_by_table(tables, made).items():
        output.show_rows(name, rows)


def _rows_by_table(tables: Sequence[Table], made: Made) -> dict[str, list[TextRow]]:
    """Return the rows as text; a row that is gone has no column but its key and `newest`."""
    rows: dict[str, list[TextRow]] = {}
    for position, row in enumerate(made.rows):
        table = tables[row.table]
        name = f"{table.name} (gone)" if position in made.gone else table.name
        rows.setdefault(name, []).append(row_text(table, row.values))
    return rows


def _made_document(tables: Sequence[Table], label: str, made: Made) -> dict[str, Any]:
    return {
        "event": label,
        "matched": made.matched,
        "rows": [
            {
                "table": tables[row.table].name,
                "gone": position in made.gone,
                "values": {
                    name: None if text == NO_VALUE else text
                    for name, text in row_text(tables[row.table], row.values).items()
                },
            }
            for position, row in enumerate(made.rows)
        ],
        "problems": list(made.problems),
        "notes": list(made.notes),
    }


def _show_tested(tested: Sequence[TestedFile]) -> None:
    for each in tested:
        output.show_file_problems(each.file.path.parent, each.problems)
        for result in each.results:
            output.show_result(each.file.path, result)
        for warning in each.warnings:
            console.print_warning(f"{each.file.path}: {warning}")
    results = [result for each in tested for result in each.results]
    failed = sum(bool(result.problems) for result in results)
    console.stdout.print(f"{_counted(len(results), 'test')}, {failed} failed")


def _tested_document(tested: TestedFile) -> dict[str, Any]:
    folder = tested.file.path.parent
    return {
        "file": str(tested.file.path),
        "problems": [_problem_document(folder, each) for each in tested.problems],
        "tests": [output.result_document(result) for result in tested.results],
        "warnings": list(tested.warnings),
    }


def _problem_document(folder: Path, problem: FileProblem) -> dict[str, Any]:
    return {**msgspec.structs.asdict(problem), "file": str(folder / problem.file)}


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """End the command with a usage error where a file cannot be read."""
    try:
        yield
    except (UnreadableError, SampleError, InferError) as error:
        refuse(str(error), USAGE)


def _end(*, failed: bool) -> None:
    raise typer.Exit(ERROR if failed else 0)
