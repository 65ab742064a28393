"""`etlpay validate`: checks whole files against a pipeline, and reports what does not hold. It needs no stack."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.text import Text

from etlpay_cli import console
from etlpay_cli import pipeline_output as output
from etlpay_cli.commands.invocation import refuse, require_stack
from etlpay_cli.errors import ERROR, USAGE
from etlpay_cli.pipeline_files import UnreadableError
from etlpay_cli.validation.inbox import InboxError, put_into_inbox
from etlpay_cli.validation.markdown import places_text
from etlpay_cli.validation.opening import UnsoundPipelineError, files_of, format_of, open_pipeline, source_of
from etlpay_cli.validation.reading import Job, validate_file
from etlpay_cli.validation.report import json_text, make_report
from etlpay_cli.validation.writing import write_report
from shared.contracts.errors import FatalError
from shared.contracts.event import now
from shared.pipelines.checking.violations import Showing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from etlpay_cli.validation.report import FileReport, ValidationReport

_STYLES = {"error": "red", "warning": "yellow", "note": "dim"}


class FailOn(StrEnum):
    """What makes a file invalid."""

    ERROR = "error"
    WARNING = "warning"


def validate(  # noqa: PLR0913 - each is an option of the command
    paths: Annotated[list[Path], typer.Argument(metavar="FILE|FOLDER...", help="Files, or folders of files.")],
    *,
    pipeline: Annotated[str, typer.Option(help="The pipeline: its file, or its name in pipelines/.")],
    report: Annotated[Path | None, typer.Option(metavar="DIR", help="A folder for the report.")] = None,
    fail_on: Annotated[FailOn, typer.Option(help="From which level on a file is not valid.")] = FailOn.ERROR,
    places: Annotated[int, typer.Option(min=0, max=10_000, help="Places that are told of each problem.")] = 20,
    show_values: Annotated[bool, typer.Option("--show-values", help="Show values, masked as the file says.")] = False,
    source: Annotated[str, typer.Option(help="The source of the files; else that of the pipeline.")] = "",
    formats: Annotated[
        Path | None, typer.Option(help="How sources write files: the file of ETLPAY_FILES_FORMATS_FILE.")
    ] = None,
    load: Annotated[str, typer.Option(metavar="SOURCE", help="Put valid files into the inbox of this source.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check whole files against a pipeline.

    Exit code 1: there are errors (or warnings, with --fail-on warning); 2: usage, or a file cannot be read.
    """
    try:
        opened = open_pipeline(pipeline)
        files = files_of(paths)
        named = source_of(opened, load or source)
        form = format_of(formats, named)
    except (UnreadableError, FatalError) as error:
        refuse(str(error), USAGE)
    except UnsoundPipelineError as error:
        output.show_file_problems(error.path.parent, error.problems)
        refuse(str(error), USAGE)
    inbox = Path(require_stack()[2].addresses().inbox) if load else None
    job = Job(opened.program, opened.files, named, form, Showing(places, show_values))
    started = now()
    with console.progress("validating"):
        validated = [(path, validate_file(path, name, job)) for name, path in files.items()]
    refused: list[str] = []
    if inbox is not None:
        validated = list(_loaded(validated, inbox, named, fail_on.value, refused))
    found = make_report(
        opened.report,
        (each for _, each in validated),
        (started, now()),
        fail_on=fail_on.value,
        source=load,
    )
    _finish(found, report, refused, as_json=as_json)


def _loaded(
    validated: Iterable[tuple[Path, FileReport]], inbox: Path, source: str, fail_on: str, refused: list[str]
) -> Iterator[tuple[Path, FileReport]]:
    """Put valid files into the inbox, and yield all with whether it was done."""
    for path, each in validated:
        loaded = False
        if each.is_valid(fail_on) and each.sha256:
            try:
                put_into_inbox(path, inbox, source, each.sha256)
                loaded = True
            except InboxError as error:
                refused.append(str(error))
        yield path, msgspec.structs.replace(each, loaded=loaded)


def _finish(found: ValidationReport, folder: Path | None, refused: Iterable[str], *, as_json: bool) -> None:
    """Show and write the report, and end with the exit code."""
    written: list[Path] = []
    if folder is not None:
        try:
            written = write_report(found, folder)
        except OSError as error:
            refuse(f"{folder}: {error.strerror or 'cannot be written'}", USAGE)
    if as_json:
        console.stdout.file.write(json_text(found).decode())
    else:
        _show(found)
        for path in written:
            console.stdout.print(Text(f"written: {path}"), soft_wrap=True)
    problems = list(refused)
    for problem in problems:
        console.print_error(problem)
    if found.read_errors:
        raise typer.Exit(USAGE)
    raise typer.Exit(0 if found.valid and not problems else ERROR)


def _printable(text: str) -> str:
    """Return a text that may hold anything without what a terminal would obey."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _show(found: ValidationReport) -> None:
    for file in found.files:
        if file.read_error:
            line = _printable(f"{file.name}: cannot be read: {file.read_error}")
            console.stdout.print(Text(line, style="red"), soft_wrap=True)
        for problem in file.problems:
            name = f"{problem.rule} {problem.column}".strip()
            places = places_text(problem)
            details = "; ".join((*([problem.detail] if problem.detail else []), *problem.groups, *problem.values))
            parts = (f"{file.name}: {problem.level}: {name}: {problem.rows}", f"at {places}" if places else "", details)
            line = _printable(": ".join(part for part in parts if part))
            console.stdout.print(Text(line, style=_STYLES[problem.level]), soft_wrap=True)
    word = Text("valid", style="green") if found.valid else Text("not valid", style="bold red")
    files = "1 file" if found.files_total == 1 else f"{found.files_total} files"
    counts = f"{files}, {found.rows_read} rows, {found.rows_invalid} of them invalid: "
    console.stdout.print(Text.assemble(counts, word))
