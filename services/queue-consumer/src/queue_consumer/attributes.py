"""Reads the attributes of a message: source, type, time, sender and origin."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec

from queue_consumer.message import CLOUD_EVENTS, Message, has_any, text_of, texts
from shared.contracts.event import id_problem, source_problem, type_problem

_SOURCE_HEADERS: Final = ("source", *(f"{prefix}source" for prefix in CLOUD_EVENTS))
_TYPE_HEADERS: Final = tuple(f"{prefix}type" for prefix in CLOUD_EVENTS)
_TIME_HEADERS: Final = tuple(f"{prefix}time" for prefix in CLOUD_EVENTS)

_TYPE_NAMES: Final = frozenset(_TYPE_HEADERS)
_TIME_NAMES: Final = frozenset(_TIME_HEADERS)

_DETAIL_CHARS_MAX: Final = 100
_PLAIN: Final = re.compile(rf"[A-Za-z0-9._:/@+-]{{1,{_DETAIL_CHARS_MAX}}}")


class SourceAttribute(NamedTuple):
    """The source of a message. Where the given one cannot be a source: `problem` says why, `given` is its text."""

    name: str
    problem: str = ""
    given: str = ""


def read_source(headers: Mapping[str, Any], *, default: str) -> SourceAttribute:
    """Return the first valid source of the headers, as it was given; `default` where there is none.

    Where a header holds something else, `problem` says so.
    """
    invalid: SourceAttribute | None = None
    for name in _SOURCE_HEADERS:
        if name not in headers:
            continue
        value = headers[name]
        text = text_of(value)
        problem = "must be text" if text is None else source_problem(text)
        if text is not None and problem is None:
            return SourceAttribute(text)
        if invalid is None and (text is not None or not _is_empty(value)):
            given = f"{type(value).__name__} {value!r}" if text is None else text
            invalid = SourceAttribute(default, f"the header {name} {problem}", given)
    return invalid or SourceAttribute(default)


def read_type(message: Message) -> str:
    """Return the event's type: that of CloudEvents, else the property `type`; empty where neither is valid."""
    if has_any(message.headers, _TYPE_NAMES):
        for text in texts(message.headers, _TYPE_HEADERS):
            if type_problem(text) is None:
                return text
    return message.type if message.type and type_problem(message.type) is None else ""


def read_time(message: Message) -> datetime | None:
    """Return when it occurred: the time of CloudEvents, else the property `timestamp`, which has whole seconds."""
    if has_any(message.headers, _TIME_NAMES):
        for name in _TIME_HEADERS:
            if (moment := _moment(message.headers.get(name))) is not None:
                return moment
    return message.timestamp


def read_sender(message: Message) -> str:
    """Return the publisher's user, which the broker has checked; empty where the message does not name it."""
    return message.user_id if message.user_id and id_problem(message.user_id) is None else ""


def read_origin(message: Message, *, queue: str, own_id: str, given_source: str) -> str:
    """Return `queue:NAME`, and after a `?`, as in a URL, what identifies the message at its producer.

    Long values are cut. A `message_id` that is in the event's key is not repeated.
    """
    details = []
    if own_id and message.message_id:
        details.append(f"message_id={_written(message.message_id)}")
    if message.correlation_id:
        details.append(f"correlation_id={_written(message.correlation_id)}")
    if message.app_id:
        details.append(f"app_id={_written(message.app_id)}")
    if given_source:
        details.append(f"source={_written(given_source)}")
    return f"queue:{queue}?{'&'.join(details)}" if details else f"queue:{queue}"


def _moment(value: Any) -> datetime | None:  # noqa: ANN401 - of any AMQP type
    try:
        moment = msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        return None
    return moment if moment.tzinfo is not None else None


def _is_empty(value: Any) -> bool:  # noqa: ANN401 - of any AMQP type
    return value is None or value in ("", b"")


def _written(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    cut = text if len(text) <= _DETAIL_CHARS_MAX else f"{text[:_DETAIL_CHARS_MAX]}…"
    return quote(cut, safe=":/@+", errors="surrogatepass")
