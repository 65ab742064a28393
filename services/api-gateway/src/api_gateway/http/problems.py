"""Every response that is not a success: problem details (RFC 9457).

No problem repeats a value that was sent; those of a pipeline file quote the names in it.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from api_gateway.schemas import HttpResponse, Ingested, MalformedError
from shared.auth.rate import RateExceededError
from shared.auth.scopes import OutOfScopeError, RightMissingError
from shared.contracts.errors import (
    EtlPayError,
    InvalidEventError,
    OutcomeUnknownError,
    OverloadedError,
    Problem,
    RetryableError,
)
from shared.pipelines.document.problems import FileProblem

PAGE: Final = "/docs/problems"
MEDIA_TYPE: Final = "application/problem+json"


class ProblemType(NamedTuple):
    """A type of problem, as the page of problems explains it."""

    name: str
    status: int
    title: str
    meaning: str
    retry_after_seconds: int | None = None


MALFORMED: Final = ProblemType(
    "malformed", 400, "The request cannot be read", "Nothing was stored. Correct the request."
)
UNAUTHENTICATED: Final = ProblemType(
    "unauthenticated",
    401,
    "A valid API key is needed",
    "Nothing was stored. Send `Authorization: Bearer etlp_...` with a key that is active; ask the operator for one.",
)
FORBIDDEN: Final = ProblemType(
    "forbidden",
    403,
    "The API key was not made for this",
    "Nothing was stored. A key may send, read or audit, and only its own sources: ask the operator for one that may.",
)
CROSS_ORIGIN: Final = ProblemType(
    "cross-origin",
    403,
    "A page of another origin may not ask for this",
    "Nothing was stored. Where no API key is asked for, only a page from here may let a browser ask; the setting "
    "`ETLPAY_HTTP_ALLOWED_HOSTS` names the hosts of others.",
)
NOT_FOUND: Final = ProblemType(
    "not-found",
    404,
    "There is no such thing",
    "There is nothing at this path, or no such record or event in the ledger.",
)
METHOD: Final = ProblemType(
    "method-not-allowed", 405, "The method is not allowed here", "The header Allow names those that are."
)
MISDIRECTED: Final = ProblemType(
    "misdirected",
    421,
    "This is not the host that was asked for",
    "Nothing was stored. Where no API key is asked for, a request must name the gateway as localhost, by address, by "
    "the name on which it listens, or by one in the setting `ETLPAY_HTTP_ALLOWED_HOSTS`.",
)
SLOW: Final = ProblemType(
    "request-timeout", 408, "The request took too long to arrive", "Nothing was stored. Send it again."
)
CONFLICT: Final = ProblemType(
    "conflict",
    409,
    "The same id was used with another content",
    "An event with this source and id is stored already, with another payload. It stays as it is; what was sent now is "
    "kept for inspection and is no event. Repeating does not help: use another id, or the payload of the first.",
)
RESTORED: Final = ProblemType(
    "restored",
    410,
    "The ledger was restored from a backup",
    "The position in the feed is not one of this ledger. Begin anew, without `after`: what was read before comes "
    "again, as far as it was restored.",
)
TOO_LARGE: Final = ProblemType("too-large", 413, "The request is too large", "Nothing was stored. Send less at a time.")
MEDIA: Final = ProblemType(
    "unsupported-media-type",
    415,
    "The content type or encoding is not supported",
    "Nothing was stored. Send JSON, UTF-8.",
)
INVALID: Final = ProblemType(
    "invalid", 422, "The request is not valid", "Nothing was stored. `errors` names each place and what is wrong there."
)
UNSOUND: Final = ProblemType(
    "unsound-pipeline",
    422,
    "The pipeline file has errors",
    "Nothing was tried. `lint` says of each error in which file and line it stands.",
)
FAILED: Final = ProblemType(
    "failed",
    422,
    "The event is kept, and could not be processed",
    "The event is stored byte for byte; its record is FAILED, and `record` holds it with the reasons. Repeating with "
    "the same id gives the same answer.",
)
HEAD: Final = ProblemType("head-too-large", 431, "The head of the request is too large", "Nothing was stored.")
RATE: Final = ProblemType(
    "rate-exceeded",
    429,
    "More events or queries than the caller's rate allows",
    "Nothing was taken. Repeat after the time in Retry-After; RateLimit-Policy names the rate.",
)
INTERNAL: Final = ProblemType(
    "internal",
    500,
    "The gateway failed",
    "Our fault. Whether the event was stored is unknown; repeat with the same id.",
)
OVERLOADED: Final = ProblemType(
    "overloaded", 503, "There is too much to do", "Nothing was taken. Repeat after the time in Retry-After.", 1
)
UNAVAILABLE: Final = ProblemType(
    "unavailable", 503, "It cannot be done now", "Nothing was taken. Repeat after the time in Retry-After.", 2
)
AUDIT_TOO_LARGE: Final = ProblemType(
    "audit-too-large",
    503,
    "There are too many events for one answer of the audit",
    "Ask for parts of the hour, by `from` and `to`; their numbers add up to those of the hour.",
    1,
)
UNKNOWN: Final = ProblemType(
    "outcome-unknown",
    503,
    "No confirmation came in time",
    "The event may or may not be stored. Repeating with the same id is always safe; without an id it may store twice.",
    1,
)
PROBLEM_TYPES: Final = (
    MALFORMED, UNAUTHENTICATED, FORBIDDEN, CROSS_ORIGIN, NOT_FOUND, METHOD, SLOW, CONFLICT, RESTORED, TOO_LARGE, MEDIA,
    MISDIRECTED, INVALID, UNSOUND, FAILED, RATE, HEAD, INTERNAL, OVERLOADED, UNAVAILABLE, AUDIT_TOO_LARGE, UNKNOWN,
)  # fmt: skip
_OF_STATUS: Final = {each.status: each for each in (*reversed(PROBLEM_TYPES), INVALID, UNAVAILABLE)}


class ProblemDetails(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request did not succeed (RFC 9457). `type` is the page that explains the kind of problem.

    A `pointer` is a JSON Pointer into the body; places elsewhere are `/header/NAME`, `/query/NAME` and `/path/NAME`.
    `lint` is what is wrong in the files of a pipeline.
    """

    type: str
    title: str
    status: int
    detail: str
    instance: str | msgspec.UnsetType = msgspec.UNSET
    errors: tuple[Problem, ...] | msgspec.UnsetType = msgspec.UNSET
    event_id: UUID | msgspec.UnsetType = msgspec.UNSET
    record: Ingested | msgspec.UnsetType = msgspec.UNSET
    lint: tuple[FileProblem, ...] | msgspec.UnsetType = msgspec.UNSET


class HttpProblem(EtlPayError):  # noqa: N818 - a response, not an error
    """The request is answered with a problem; nothing of it was stored."""

    def __init__(
        self,
        problem_type: ProblemType,
        detail: str,
        *,
        errors: Sequence[Problem] = (),
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        """`detail` is text for people; it holds nothing that was sent."""
        super().__init__(detail)
        self.type = problem_type
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = tuple(headers)


def problem_response(  # noqa: PLR0913 - the members of a problem document
    problem_type: ProblemType,
    detail: str,
    *,
    errors: tuple[Problem, ...] = (),
    headers: tuple[tuple[str, str], ...] = (),
    event_id: UUID | None = None,
    record: Ingested | None = None,
    lint: tuple[FileProblem, ...] = (),
) -> HttpResponse:
    """Return the response for a problem of this type."""
    details = ProblemDetails(
        type=f"{PAGE}#{problem_type.name}",
        title=problem_type.title,
        status=problem_type.status,
        detail=detail,
        instance=msgspec.UNSET if event_id is None else f"/api/events/{event_id}",
        errors=errors or msgspec.UNSET,
        event_id=msgspec.UNSET if event_id is None else event_id,
        record=msgspec.UNSET if record is None else record,
        lint=lint or msgspec.UNSET,
    )
    if problem_type.retry_after_seconds is not None:
        headers = (*headers, ("retry-after", str(problem_type.retry_after_seconds)))
    return HttpResponse(problem_type.status, msgspec.json.encode(details), headers, MEDIA_TYPE)


def unauthenticated() -> HttpProblem:
    """Return the refusal of a request without a valid API key; the same whether it has none or a wrong one."""
    return HttpProblem(
        UNAUTHENTICATED,
        "Send an API key that is valid as a bearer token.",
        headers=[("www-authenticate", 'Bearer realm="etlpay"')],
    )


def rate_exceeded(error: RateExceededError, *, what: str = "events") -> HttpProblem:
    """Return the refusal of a request over its caller's rate, with the rate-limit headers (structured fields)."""
    window = max(1, math.ceil(1 / error.rate))
    return HttpProblem(
        RATE,
        f"At most {error.rate:g} {what} a second.",
        headers=[
            ("retry-after", str(error.retry_after_seconds)),
            ("ratelimit-policy", f'"{what}";q={int(error.rate * window)};w={window}'),
            ("ratelimit", f'"{what}";r=0;t={error.retry_after_seconds}'),
        ],
    )


def error_response(  # noqa: PLR0911 - one for each
    error: HttpProblem | InvalidEventError | RateExceededError | RetryableError | RightMissingError,
) -> HttpResponse:
    """Return the response for an error that ended a request."""
    match error:
        case HttpProblem():
            return problem_response(error.type, error.detail, errors=error.errors, headers=error.headers)
        case RateExceededError():
            return error_response(rate_exceeded(error))
        case MalformedError():
            return problem_response(MALFORMED, "The body must be one JSON document in UTF-8.", errors=error.problems)
        case OutOfScopeError():
            return problem_response(FORBIDDEN, "The source is not one of this API key's.", errors=error.problems)
        case RightMissingError():
            return problem_response(FORBIDDEN, f"This API key may not {error.right}.")
        case InvalidEventError():
            return problem_response(INVALID, "The event was refused; nothing was stored.", errors=error.problems)
        case OverloadedError():
            return problem_response(OVERLOADED, "Nothing was taken; repeat later.")
        case OutcomeUnknownError():
            return problem_response(UNKNOWN, "It may or may not be stored; repeat with the same id.")
        case _:
            return problem_response(UNAVAILABLE, "Nothing was taken; repeat later.")


def status_response(status: int, headers: tuple[tuple[str, str], ...] = ()) -> HttpResponse:
    """Return the response for a status of the framework."""
    problem_type = _OF_STATUS.get(status) or (MALFORMED if status < INTERNAL.status else INTERNAL)
    return problem_response(problem_type._replace(status=status), problem_type.meaning, headers=headers)
