"""Errors as `google.rpc.Status` with details that clients of any language can read. They never hold a value."""

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.code_pb2 import (
    ALREADY_EXISTS,
    INTERNAL,
    INVALID_ARGUMENT,
    PERMISSION_DENIED,
    RESOURCE_EXHAUSTED,
    UNAUTHENTICATED,
    UNAVAILABLE,
)
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from grpc_ingest.mapping import CONFLICT, retry_advice
from shared.auth.rate import RateExceededError
from shared.contracts.errors import InvalidEventError, OverloadedError, RetryableError

_DOMAIN = "etlpay"
_RETRY_DELAY = Duration(seconds=1)


def refused(error: InvalidEventError) -> Status:
    """INVALID_ARGUMENT: nothing was stored; each field with what is wrong there."""
    violations = [
        BadRequest.FieldViolation(field=_field(problem.pointer), description=problem.detail)
        for problem in error.problems
    ]
    return _status(INVALID_ARGUMENT, "the request cannot be an event", BadRequest(field_violations=violations))


def conflict() -> Status:
    """ALREADY_EXISTS: same id, other content."""
    return _status(ALREADY_EXISTS, f"the id {CONFLICT.detail}", ErrorInfo(reason="CONFLICT", domain=_DOMAIN))


def unauthenticated() -> Status:
    """UNAUTHENTICATED: no valid API key; the same whether there is none or a wrong one."""
    return _status(
        UNAUTHENTICATED,
        "send an API key that is valid as metadata: authorization: Bearer etlp_...",
        ErrorInfo(reason="API_KEY_INVALID", domain=_DOMAIN),
    )


def out_of_scope() -> Status:
    """PERMISSION_DENIED: the event's source is not one of the API key's."""
    return _status(
        PERMISSION_DENIED,
        "the event's source is not one of this API key's",
        ErrorInfo(reason="SOURCE_OUT_OF_SCOPE", domain=_DOMAIN),
    )


def right_missing() -> Status:
    """PERMISSION_DENIED: the API key is valid, and was not made for sending."""
    return _status(
        PERMISSION_DENIED, "this API key may not send", ErrorInfo(reason="API_KEY_MAY_NOT_SEND", domain=_DOMAIN)
    )


def rate_exceeded(error: RateExceededError) -> Status:
    """RESOURCE_EXHAUSTED: over the API key's rate; nothing was taken."""
    return _status(
        RESOURCE_EXHAUSTED,
        f"at most {error.rate:g} events a second",
        ErrorInfo(reason="RATE_LIMIT_EXCEEDED", domain=_DOMAIN),
        RetryInfo(retry_delay=Duration(seconds=error.retry_after_seconds)),
    )


def retry_later(error: RetryableError) -> Status:
    """RESOURCE_EXHAUSTED or UNAVAILABLE, with the time after which trying again makes sense."""
    code = RESOURCE_EXHAUSTED if isinstance(error, OverloadedError) else UNAVAILABLE
    return _status(code, retry_advice(error), RetryInfo(retry_delay=_RETRY_DELAY))


def silent(seconds: float) -> Status:
    """UNAVAILABLE: the next message did not come in time; its place goes to others, and it may come again."""
    return _status(
        UNAVAILABLE,
        f"no message for {seconds:g} seconds; call again",
        RetryInfo(retry_delay=_RETRY_DELAY),
    )


def unread(seconds: float) -> Status:
    """UNAVAILABLE: the client does not read its answers, so the stream makes room for others."""
    return _status(
        UNAVAILABLE,
        f"no answer was read for {seconds:g} seconds; send what was not answered again, with the same ids",
        RetryInfo(retry_delay=_RETRY_DELAY),
    )


def old(seconds: float) -> Status:
    """UNAVAILABLE: the stream has lasted long enough; another one, which may be opened at once, finds new servers."""
    return _status(
        UNAVAILABLE,
        f"a stream ends after {seconds:g} seconds; open another one, and send there what was not answered here",
        RetryInfo(retry_delay=Duration()),
    )


def draining() -> Status:
    """UNAVAILABLE: this server is about to stop; what it did not answer goes to another."""
    return _status(
        UNAVAILABLE,
        "draining; send what was not answered again, with the same ids",
        RetryInfo(retry_delay=_RETRY_DELAY),
    )


def internal() -> Status:
    """INTERNAL: a fault of ours, of which the log knows more."""
    return _status(INTERNAL, "internal error; it may be stored; repeat with the same id")


def _status(code: int, message: str, *details: Message) -> Status:
    status = Status(code=code, message=message)
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _field(pointer: str) -> str:
    """Return a JSON Pointer as the path of a field: `/requests/3/id` becomes `requests.3.id`."""
    return pointer.removeprefix("/").replace("/", ".")
