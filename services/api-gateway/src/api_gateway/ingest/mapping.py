"""Mapping: the bytes of one event as HTTP sends it → an envelope. Pure; the payload's bytes stay as they are."""

import difflib
from collections.abc import Callable
from datetime import datetime
from itertools import islice
from typing import Final

import msgspec

from api_gateway.schemas import IngestRequest, MalformedError
from shared.contracts.errors import InvalidEventError, Problem
from shared.contracts.event import (
    Channel,
    Envelope,
    id_problem,
    identify,
    source_problem,
    type_problem,
)
from shared.contracts.moment import read_moment
from shared.contracts.payload import MORE_THAN_ONE, holds_more_than_one, object_problem, scanned_object_problem

_KNOWN: Final = tuple(IngestRequest.__struct_fields__)
_UNKNOWN_MAX: Final = 10

_read_request = msgspec.json.Decoder(IngestRequest).decode
_read_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_read_text = msgspec.json.Decoder(str).decode


def read_event(document: bytes, received_at: datetime, *, sender: str = "", header_key: str | None = None) -> Envelope:
    """Return the envelope of one event.

    `sender` is the name of the API key with which it came, `header_key` the id from the header `Idempotency-Key`, if
    there was one.

    Raises:
        MalformedError: `document` is not one JSON document in UTF-8.
        InvalidEventError: it is no event; every problem is named.
    """
    try:
        request = _read_request(document)
        occurred_at = None if request.occurred_at is None else read_moment(request.occurred_at)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        # Reading stops at the first problem; the slow way names them all.
        raise _refusal(document, header_key) from error
    body = bytes(request.payload)
    if problems := _problems(request, body, header_key):
        raise InvalidEventError(problems)
    key = header_key if request.id is None else request.id
    return Envelope(
        event_id=identify(request.source_name, key or ""),
        source=request.source_name,
        channel=Channel.HTTP,
        received_at=received_at,
        body=body,
        idempotency_key=key or "",
        sender=sender,
        type=request.type or "",
        occurred_at=occurred_at,
    )


def _problems(request: IngestRequest, body: bytes, header_key: str | None) -> list[Problem]:
    found = []
    if problem := source_problem(request.source_name):
        found.append(Problem("/source_name", problem))
    if problem := scanned_object_problem(body):
        found.append(Problem("/payload", problem))
    if request.id is not None and (problem := id_problem(request.id) or _contradiction(request.id, header_key)):
        found.append(Problem("/id", problem))
    if header_key is not None and (problem := id_problem(header_key)):
        found.append(Problem("/header/Idempotency-Key", problem))
    if request.type is not None and (problem := type_problem(request.type)):
        found.append(Problem("/type", problem))
    return found


def _contradiction(key: str, header_key: str | None) -> str | None:
    return None if header_key in (None, key) else "differs from the header Idempotency-Key"


def _refusal(document: bytes, header_key: str | None) -> InvalidEventError:
    """Return the error that names every problem of a document which is no IngestRequest."""
    try:
        members = _read_members(document)
    except msgspec.ValidationError:
        return _not_an_object(document)
    except RecursionError:
        return InvalidEventError([Problem("", "is nested too deeply")])
    except (msgspec.DecodeError, UnicodeDecodeError):
        several = holds_more_than_one(document)
        return MalformedError([Problem("", MORE_THAN_ONE if several else "must be one JSON document in UTF-8")])
    problems = _unknown_members(members) + [
        Problem(f"/{name}", detail)
        for name, check in _CHECKS.items()
        if (detail := check(bytes(members[name])) if name in members else _MISSING.get(name))
    ]
    if header_key is not None and (detail := id_problem(header_key)):
        problems.append(Problem("/header/Idempotency-Key", detail))
    return InvalidEventError(problems or [Problem("", "is not an event")])


def _not_an_object(document: bytes) -> InvalidEventError:
    detail = object_problem(document) or "must be a JSON object"
    problem = Problem("", detail)
    return InvalidEventError([problem]) if detail == "must be a JSON object" else MalformedError([problem])


def _unknown_members(members: dict[str, msgspec.Raw]) -> list[Problem]:
    """Say that there are unknown members, and which known one is near; the unknown name itself is not repeated."""
    problems = []
    # Comparing names takes time, and one body can hold a hundred thousand: a few are enough to see what is wrong.
    for name in islice((name for name in members if name not in _KNOWN), _UNKNOWN_MAX):
        near = difflib.get_close_matches(name[:64], _KNOWN, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(_KNOWN)}"
        problems.append(Problem("", f"has an unknown member{hint}"))
    return sorted(set(problems), key=lambda problem: problem.detail)


def _text_check(problem_of: Callable[[str], str | None], *, optional: bool) -> Callable[[bytes], str | None]:
    def check(raw: bytes) -> str | None:
        if optional and raw == b"null":
            return None
        try:
            return problem_of(_read_text(raw))
        except UnicodeDecodeError:
            return "must be UTF-8"
        except msgspec.DecodeError:
            return "must be a string"

    return check


def _moment_problem(text: str) -> str | None:
    try:
        read_moment(text)
    except ValueError as error:
        return str(error)
    return None


_MISSING: Final = {"source_name": "is missing", "payload": "is missing"}
_CHECKS: Final[dict[str, Callable[[bytes], str | None]]] = {
    "source_name": _text_check(source_problem, optional=False),
    "payload": object_problem,
    "id": _text_check(id_problem, optional=True),
    "type": _text_check(type_problem, optional=True),
    "occurred_at": _text_check(_moment_problem, optional=True),
}
