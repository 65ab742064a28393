"""The answer to one trial: the body of a request → what the event would become, or why it cannot be tried. Pure."""

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from api_gateway.schemas import TrialEvent, TrialRequest, TrialResult
from api_gateway.trials.answers import Refused, TrialAnswer, Tried, Unsound
from shared.contracts.csv_reading import CSV, UnreadableError, cut_row
from shared.contracts.csv_row import CSV_ROW
from shared.contracts.errors import Problem
from shared.contracts.event import id_problem, source_problem, type_problem
from shared.contracts.moment import read_moment
from shared.contracts.payload import scanned_object_problem
from shared.pipelines.compiling import CompileError, PipelineProgram
from shared.pipelines.document.problems import FileProblem, has_errors
from shared.pipelines.model import Pipeline
from shared.pipelines.program import Made
from shared.pipelines.trials.expectations import KnownOfEvent
from shared.pipelines.trials.samples import SampleError, SampleEvent, read_events
from shared.pipelines.trials.trying import check_files, compile_files, tried_rows, try_event

COLUMNS_MAX: Final = 200
"""Of all tables of a pipeline that is tried."""

ANSWER_BYTES_MAX: Final = 1 << 20

_JSON: Final = "application/json"
_SAMPLE: Final = "event.json"
_ROW: Final = "event.csv"
_AT: Final = re.compile(r" - at `(?:key in )?\$(?P<steps>[^`]*)`$")
_STEP: Final = re.compile(r"\.([a-z_]+)|\[(\.\.\.)\]")
_MISSING: Final = re.compile(r"Object missing required field `([a-z_]+)`")
_UNKNOWN: Final = "Object contains unknown field"

_read_request = msgspec.json.Decoder(TrialRequest).decode
_encode = msgspec.json.Encoder().encode


class _RefusedError(ValueError):
    """The request cannot be tried."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__()
        self.problems = problems


def answer_trial(body: bytes) -> bytes:
    """Return the answer to the body of a request, as JSON that `answers.read_answer` reads."""
    return _encode(_answer(body))


def _answer(body: bytes) -> TrialAnswer:
    try:
        request = _read_request(body)
    except msgspec.ValidationError as error:
        return Refused((_request_problem(str(error)),))
    except RecursionError:
        return Refused((Problem("", "is nested too deeply"),))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Refused((Problem("", "must be one JSON document in UTF-8"),), malformed=True)
    try:
        return _try(request)
    except _RefusedError as error:
        return Refused(error.problems)


def _try(request: TrialRequest) -> TrialAnswer:
    """Raises _RefusedError."""
    name = _file_of(request)
    known, event = _known(request.event), _sample_of(request.event)

    def read(file: str) -> bytes | None:
        text = request.files.get(file)
        return None if text is None else text.encode(errors="surrogatepass")

    pipeline, problems = check_files(name, read)
    problems = (*problems, *_too_many_columns(name, pipeline))
    if pipeline is None or has_errors(problems):
        return Unsound(problems)
    try:
        program = compile_files(name, pipeline, read)
    except CompileError as error:
        return Unsound((FileProblem("", None, "error", str(error), name),))
    result = _encode(_result(program, try_event(program, event, known)))
    if len(result) > ANSWER_BYTES_MAX:
        raise _RefusedError(Problem("/event", "makes rows of more than 1 MiB together"))
    return Tried(msgspec.Raw(result))


def _file_of(request: TrialRequest) -> str:
    """Return the name of the pipeline file. Raises _RefusedError."""
    if request.file is not None:
        if request.file not in request.files:
            raise _RefusedError(Problem("/file", "is not among the files"))
        return request.file
    names = [name for name in request.files if name.endswith(".toml")]
    if len(names) != 1:
        raise _RefusedError(Problem("/file", f"is missing, and {len(names)} of the files end in .toml"))
    return names[0]


def _known(event: TrialEvent) -> KnownOfEvent:
    """Raises _RefusedError."""
    if problems := tuple(_attribute_problems(event)):
        raise _RefusedError(*problems)
    try:
        occurred_at = None if event.occurred_at is None else read_moment(event.occurred_at)
    except ValueError as error:
        raise _RefusedError(Problem("/event/occurred_at", str(error))) from error
    return KnownOfEvent(source=event.source_name, id=event.id, type=event.type, occurred_at=occurred_at)


def _attribute_problems(event: TrialEvent) -> Iterator[Problem]:
    for name, text, check in (
        ("source_name", event.source_name, source_problem),
        ("id", event.id, id_problem),
        ("type", event.type, type_problem),
    ):
        if text is not None and (detail := check(text)):
            yield Problem(f"/event/{name}", detail)


def _sample_of(event: TrialEvent) -> SampleEvent:
    """Return what the event holds. Raises _RefusedError."""
    if event.content_type == _JSON and event.text is msgspec.UNSET:
        return _sample_of_payload(event.payload)
    if not event.content_type.startswith(CSV):
        raise _RefusedError(Problem("/event/content_type", f"must be {_JSON} with a payload, or {CSV} with a text"))
    if event.payload is not msgspec.UNSET or event.text is msgspec.UNSET:
        raise _RefusedError(Problem("/event/text", "must be there, and no payload, where the content type is CSV"))
    content_type = CSV_ROW if event.content_type == CSV else event.content_type
    try:
        # A row is stored without the end of its line.
        row = event.text.removesuffix("\n").removesuffix("\r")
        header, fields = cut_row(row.encode(errors="surrogatepass"), content_type)
    except UnreadableError as error:
        raise _RefusedError(Problem("/event/text", str(error))) from error
    return SampleEvent(_ROW, header=header, fields=tuple(fields), row=1)


def _sample_of_payload(payload: msgspec.Raw | msgspec.UnsetType) -> SampleEvent:
    if payload is msgspec.UNSET:
        raise _RefusedError(Problem("/event/payload", "is missing"))
    body = bytes(payload)
    if detail := scanned_object_problem(body):
        raise _RefusedError(Problem("/event/payload", detail))
    try:
        [event] = read_events(_SAMPLE, body)
    except SampleError as error:
        raise _RefusedError(Problem("/event/payload", str(error).removeprefix(f"{_SAMPLE}: "))) from error
    return event


def _too_many_columns(name: str, pipeline: Pipeline | None) -> Iterator[FileProblem]:
    number = sum(len(table.columns) for table in pipeline.table) if pipeline else 0
    if number > COLUMNS_MAX:
        detail = f"has {number} columns in its tables together; a trial takes at most {COLUMNS_MAX}"
        yield FileProblem("table", None, "error", detail, name)


def _result(program: PipelineProgram, made: Made) -> TrialResult:
    rows: dict[str, list[dict[str, str | None]]] = {}
    gone: dict[str, list[dict[str, str | None]]] = {}
    for row in tried_rows(program.pipeline.table, made):
        (gone if row.gone else rows).setdefault(row.table, []).append(row.values)
    return TrialResult(
        status="FAILED" if made.problems else "SUCCESS",
        cause=made.problems[0].cause if made.problems else None,
        matched=made.matched,
        rows=rows,
        gone=gone,
        errors=made.problems,
        notes=made.notes,
    )


def _request_problem(message: str) -> Problem:
    """Return the problem that the decoder's message tells, without what was sent."""
    found = _AT.search(message)
    pointer = "".join(f"/{name or '*'}" for name, _ in _STEP.findall(found["steps"])) if found else ""
    if missing := _MISSING.match(message):
        return Problem(f"{pointer}/{missing[1]}", "is missing")
    if message.startswith(_UNKNOWN):
        known = (TrialEvent if pointer else TrialRequest).__struct_fields__
        return Problem(pointer, f"has an unknown member; known are {', '.join(known)}")
    return Problem(pointer, "is of another type than it must be")
