"""What ends a call with an error: a code, and details of `google.rpc` for programs. None holds a value of the input."""

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
from grpc_status import rpc_status

from grpc_ingest.mapping import CONFLICT, retry_advice
from shared.auth.rate import RateExceededError
from shared.contracts.errors import InvalidEventError, OverloadedError, RetryableError
from shared.runtime.rpc_health import RpcAbort

_DOMAIN = "etlpay"
_RETRY_DELAY = Duration(seconds=1)


def refused(error: InvalidEventError) -> RpcAbort:
    """INVALID_ARGUMENT: nothing was stored; each field with what is wrong there."""
    violations = [
        BadRequest.FieldViolation(field=_field(problem.pointer), description=problem.detail)
        for problem in error.problems
    ]
    return _abort(INVALID_ARGUMENT, "the request cannot be an event", BadRequest(field_violations=violations))


def conflict() -> RpcAbort:
    """ALREADY_EXISTS: same id, other content."""
    return _abort(ALREADY_EXISTS, f"the id {CONFLICT.detail}", ErrorInfo(reason="CONFLICT", domain=_DOMAIN))


def unauthenticated() -> RpcAbort:
    """UNAUTHENTICATED: no valid API key; the same whether there is none or a wrong one."""
    return _abort(
        UNAUTHENTICATED,
        "send an API key that is valid as metadata: authorization: Bearer etlp_...",
        ErrorInfo(reason="API_KEY_INVALID", domain=_DOMAIN),
    )


def out_of_scope() -> RpcAbort:
    """PERMISSION_DENIED: the event's source is not one of the API key's."""
    return _abort(
        PERMISSION_DENIED,
        "the event's source is not one of this API key's",
        ErrorInfo(reason="SOURCE_OUT_OF_SCOPE", domain=_DOMAIN),
    )


def right_missing() -> RpcAbort:
    """PERMISSION_DENIED: the API key is valid, and may not send."""
    return _abort(
        PERMISSION_DENIED, "this API key may not send", ErrorInfo(reason="API_KEY_MAY_NOT_SEND", domain=_DOMAIN)
    )


def rate_exceeded(error: RateExceededError) -> RpcAbort:
    """RESOURCE_EXHAUSTED: over the API key's rate; nothing was taken."""
    return _abort(
        RESOURCE_EXHAUSTED,
        f"at most {error.rate:g} events a second",
        ErrorInfo(reason="RATE_LIMIT_EXCEEDED", domain=_DOMAIN),
        RetryInfo(retry_delay=Duration(seconds=error.retry_after_seconds)),
    )


def retry_later(error: RetryableError) -> RpcAbort:
    """RESOURCE_EXHAUSTED or UNAVAILABLE, with the time after which trying again makes sense."""
    code = RESOURCE_EXHAUSTED if isinstance(error, OverloadedError) else UNAVAILABLE
    return _abort(code, retry_advice(error), RetryInfo(retry_delay=_RETRY_DELAY))


def silent(seconds: float) -> RpcAbort:
    """UNAVAILABLE: the next message did not come in time; the client may call again."""
    return _abort(
        UNAVAILABLE,
        f"no message for {seconds:g} seconds; call again",
        RetryInfo(retry_delay=_RETRY_DELAY),
    )


def unread(seconds: float) -> RpcAbort:
    """UNAVAILABLE: the client does not read its answers, so the stream ends."""
    return _abort(
        UNAVAILABLE,
        f"no answer was read for {seconds:g} seconds; send what was not answered again, with the same ids",
        RetryInfo(retry_delay=_RETRY_DELAY),
    )


def old(seconds: float) -> RpcAbort:
    """UNAVAILABLE: the stream is too old; the client may open another one at once, which may reach another server."""
    return _abort(
        UNAVAILABLE,
        f"a stream ends after {seconds:g} seconds; open another one, and send there what was not answered here",
        RetryInfo(retry_delay=Duration()),
    )


def draining() -> RpcAbort:
    """UNAVAILABLE: this server is stopping; the client sends what was not answered to another."""
    return _abort(
        UNAVAILABLE,
        "draining; send what was not answered again, with the same ids",
        RetryInfo(retry_delay=_RETRY_DELAY),
    )


def internal() -> RpcAbort:
    """INTERNAL: an error of this service, which the log describes."""
    return _abort(INTERNAL, "internal error; it may be stored; repeat with the same id")


def _abort(code: int, message: str, *details: Message) -> RpcAbort:
    status = Status(code=code, message=message)
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    sent = rpc_status.to_status(status)
    return RpcAbort(sent.code, sent.details, sent.trailing_metadata)


def _field(pointer: str) -> str:
    """Return a JSON Pointer as the path of a field: `/requests/3/id` becomes `requests.3.id`."""
    return pointer.removeprefix("/").replace("/", ".")
