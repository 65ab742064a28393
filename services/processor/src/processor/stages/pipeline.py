"""Runs the program of a pipeline over an event of one of its sources. Pure."""

from collections.abc import Iterable
from typing import Final

import msgspec

from processor.ledger.rows import Processed
from processor.payload import READ_ERRORS
from processor.programs.active import ActivePipeline, ActiveSet
from processor.stages.reading import code_of, read_object, unreadable_reason
from shared.contracts.csv_reading import CSV, UnreadableError, cut_row
from shared.contracts.drift import DriftKind
from shared.contracts.errors import Problem
from shared.contracts.event import Channel, Envelope
from shared.contracts.failure import failure_reason
from shared.contracts.result import RecordStatus
from shared.pipelines.compiling import PipelineProgram
from shared.pipelines.program import Attributes, Made, RowProblem

HELD_CODE: Final = "held"

_DRIFT: Final[dict[str, DriftKind]] = {kind.label: kind for kind in DriftKind}

_encode: Final = msgspec.json.Encoder(decimal_format="number").encode


def run_pipeline(event: Envelope, pipeline: ActivePipeline, pipelines: ActiveSet, *, acknowledged: bool) -> Processed:
    """Return the event with the record and the rows that it becomes; never raises because of its content.

    An event that cannot be read, or breaks the contract, is FAILED and has no row. That of a pipeline which is held is
    HELD, whatever it holds.
    """
    program = pipeline.program
    if program is None or pipeline.name in pipelines.held:
        return _held(event, pipeline, acknowledged=acknowledged)
    try:
        if event.content_type.startswith(CSV):
            return _of_row(event, pipeline, program, acknowledged=acknowledged)
        if (reason := failure_reason(event.content_type)) is not None:
            return _unreadable(event, pipeline, reason, acknowledged=acknowledged)
        return _of_object(event, pipeline, program, acknowledged=acknowledged)
    except (UnreadableError, *READ_ERRORS) as error:
        return _unreadable(event, pipeline, unreadable_reason(event.body, error), acknowledged=acknowledged)


def attributes_of(event: Envelope) -> Attributes:
    """Return what places such as `@row` name."""
    row, file = None, None
    if event.channel is Channel.FILE:
        # As the file-watcher writes it.
        file, _, number = event.origin.rpartition(":")
        row = int(number) if number.isdecimal() else None
    return Attributes(
        event.source,
        event.received_at,
        event.idempotency_key,
        event.type,
        event.channel.label,
        row,
        file or None,
        event.file_at,
        event.occurred_at,
    )


def _of_object(event: Envelope, pipeline: ActivePipeline, program: PipelineProgram, *, acknowledged: bool) -> Processed:
    payload = read_object(event.body)
    made = program.run(payload, attributes_of(event))
    return _processed(event, pipeline, program, made, payload, acknowledged=acknowledged)


def _of_row(event: Envelope, pipeline: ActivePipeline, program: PipelineProgram, *, acknowledged: bool) -> Processed:
    header, fields = cut_row(event.body, event.content_type)
    made = program.run_row(header, fields, attributes_of(event))
    rules = program.pipeline
    # The rows are the result. Only what is masked is kept beside them, since the body would be shown otherwise.
    payload = dict(zip(header, fields, strict=True)) if rules.mask or rules.personal else None
    return _processed(event, pipeline, program, made, payload, acknowledged=acknowledged)


def _processed(  # noqa: PLR0913 - what an event was read to
    event: Envelope,
    pipeline: ActivePipeline,
    program: PipelineProgram,
    made: Made,
    payload: object,
    *,
    acknowledged: bool,
) -> Processed:
    rules = program.pipeline
    failed = bool(made.problems)
    return Processed(
        event,
        RecordStatus.FAILED if failed else RecordStatus.SUCCESS,
        _encode(program.masked(payload)) if rules.mask and not failed else None,
        _problems(made.problems or made.notes),
        acknowledged,
        pipeline,
        made.rows,
        made.gone,
        made.problems[0].cause if failed else "",
        program.subject_of(payload) if rules.personal else None,
        _drift_of(made) if made.notes or made.problems else (),
    )


def _problems(found: Iterable[RowProblem]) -> tuple[Problem, ...]:
    return tuple([Problem(each.pointer, each.detail, each.code) for each in found])


def _drift_of(made: Made) -> tuple[tuple[DriftKind, str], ...]:
    """Return what the program does not read, also of an event that fails: a member may have a new name."""
    found = (*made.problems, *made.notes)
    return tuple([(_DRIFT[each.code], each.pointer) for each in found if each.code in _DRIFT])


def _unreadable(event: Envelope, pipeline: ActivePipeline, reason: str, *, acknowledged: bool) -> Processed:
    code = code_of(reason)
    return Processed(
        event,
        RecordStatus.FAILED,
        errors=(Problem("", reason, code),),
        acknowledged=acknowledged,
        pipeline=pipeline,
        cause=f"{pipeline.name}:{code}",
    )


def _held(event: Envelope, pipeline: ActivePipeline, *, acknowledged: bool) -> Processed:
    return Processed(
        event,
        RecordStatus.HELD,
        acknowledged=acknowledged,
        pipeline=pipeline,
        cause=f"{pipeline.name}:{HELD_CODE}",
        subject=_subject_of_held(event, pipeline.program),
    )


def _subject_of_held(event: Envelope, program: PipelineProgram | None) -> str | None:
    """Return the person whom an event is about: it is stored with the event, which does not change afterwards."""
    if program is None or program.pipeline.personal is None:
        return None
    try:
        if event.content_type.startswith(CSV):
            return program.subject_of(dict(zip(*cut_row(event.body, event.content_type), strict=True)))
        return program.subject_of(read_object(event.body))
    except (UnreadableError, *READ_ERRORS):
        return None
