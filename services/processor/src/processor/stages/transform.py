"""Transform: makes the record of one event, and the rows of its typed tables. Pure.

Where its source has no pipeline this is the identity with checks of validity: a payload that can be read is its own
result.
"""

from typing import Final

import msgspec

from processor.ledger.rows import Processed
from processor.payload import READ_ERRORS
from processor.programs.active import ActiveSet
from processor.stages.pipeline import run_pipeline
from processor.stages.reading import (
    BACKSLASH,
    HOLDS_NUL,
    LONG_DIGITS,
    NO_OBJECT,
    SMALL,
    check_large,
    check_numbers,
    code_of,
    find_five_digits,
    find_large,
    find_nul,
    unreadable_reason,
)
from shared.contracts.csv_reading import CSV, UnreadableError, read_row
from shared.contracts.errors import Problem
from shared.contracts.event import Envelope
from shared.contracts.failure import failure_reason
from shared.contracts.media_types import JSON
from shared.contracts.result import RecordStatus

_NO_PIPELINE: Final = "-"

_read_values = msgspec.json.Decoder().decode


def transform(event: Envelope, pipelines: ActiveSet, *, acknowledged: bool = False) -> Processed:
    """Return the event with the record and the rows that it becomes; never raises because of its content.

    `acknowledged`: see `Processed`.
    """
    if pipelines.pipelines and (pipeline := pipelines.of(event.source)) is not None:
        return run_pipeline(event, pipeline, pipelines, acknowledged=acknowledged)
    try:
        # Most events are JSON: they need no further look at the content type.
        if event.content_type != JSON:
            if event.content_type.startswith(CSV):
                result = msgspec.json.encode(read_row(event.body, event.content_type))
                return Processed(event, RecordStatus.SUCCESS, result, acknowledged=acknowledged)
            if (reason := failure_reason(event.content_type)) is not None:
                return _failed(event, reason, acknowledged=acknowledged)
        _check_object(event.body)
    except (UnreadableError, *READ_ERRORS) as error:
        return _failed(event, unreadable_reason(event.body, error), acknowledged=acknowledged)
    return Processed(event, RecordStatus.SUCCESS, acknowledged=acknowledged)


def _check_object(body: bytes) -> None:
    """Check that the body is a JSON object that PostgreSQL can hold.

    This runs for each event: cheap searches come first, and most payloads need no other.

    Raises:
        UnreadableError: it is not. Otherwise one of READ_ERRORS.
    """
    values = body if len(body) <= LONG_DIGITS else check_large(body)
    if not isinstance(_read_values(values), dict):
        raise UnreadableError(NO_OBJECT)
    if BACKSLASH in body and find_nul(body):
        raise UnreadableError(HOLDS_NUL)
    if find_large(values) or (find_five_digits(values) and SMALL.search(values.lower())):
        check_numbers(values)


def _failed(event: Envelope, reason: str, *, acknowledged: bool) -> Processed:
    cause = f"{_NO_PIPELINE}:{code_of(reason)}"
    errors = (Problem("", reason),)
    return Processed(event, RecordStatus.FAILED, errors=errors, acknowledged=acknowledged, cause=cause)
