"""The request headers that EtlPay reads: host, content type, `Idempotency-Key`, `Prefer`."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from api_gateway.problems import MALFORMED, MEDIA, RefusalError
from shared.contracts.outcome import Problem

JSON: Final = "json"
LINES: Final = "lines"

_LINES_TYPES: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
_CHARSETS: Final = frozenset({"utf-8", "utf8", "us-ascii"})
_WAIT_SECONDS_MAX: Final = 86_400
_LENGTH_DIGITS_MAX: Final = 18

# A structured-field string (RFC 9651, section 3.3.3).
_QUOTED: Final = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*+)"')
_ESCAPED: Final = re.compile(r'\\(["\\])')
_BARE: Final = re.compile(r"[\x21\x23-\x7e]++")
# One preference (RFC 7240, section 2): a token, perhaps with a value, perhaps with parameters that are not ours.
_PREFERENCE: Final = re.compile(
    r"""[ \t]*+ (?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]++) [ \t]*+
        (?: = [ \t]*+ (?: "(?P<quoted>(?:[^"\\]|\\.)*+)" | (?P<value>[^\s",;]*+) ) )?+""",
    re.VERBOSE,
)
_TO_COMMA: Final = re.compile(r'(?:[^",]++|"(?:[^"\\]|\\.)*+"?)*+,?+')


class Preferences(NamedTuple):
    """What the client would like: not to wait for the outcome, or only so long."""

    respond_async: bool = False
    wait_seconds: int | None = None


class Headers(NamedTuple):
    """The headers of a request, undecided."""

    content_type: str
    content_encoding: str
    content_length: str
    idempotency_key: str | None
    prefer: str
    authorization: str | None
    expect: bool
    host: str | None
    origin: str | None


_NO_PREFERENCES: Final = Preferences()


def read_headers(pairs: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Pick our headers from those of an ASGI scope; those given several times are joined with commas."""
    found: dict[bytes, str] = {}
    for name, value in pairs:
        if name in _OURS:
            text = value.decode("latin-1")
            found[name] = f"{found[name]}, {text}" if name in found else text
    take = found.get
    # By place and not by name: of a request's microseconds it is a fifth of one.
    return Headers(
        take(b"content-type", ""),
        take(b"content-encoding", ""),
        take(b"content-length", ""),
        take(b"idempotency-key"),
        take(b"prefer", ""),
        take(b"authorization"),
        b"expect" in found,
        take(b"host"),
        take(b"origin"),
    )


_OURS: Final = frozenset(
    {
        b"authorization",
        b"content-type",
        b"content-encoding",
        b"content-length",
        b"idempotency-key",
        b"prefer",
        b"expect",
        b"host",
        b"origin",
    }
)


def body_format(headers: Headers, *, lines: bool) -> str:
    """Return JSON or LINES (only where `lines` are taken).

    A request must say which: a page of any origin may let a browser send what has no content type.

    Raises:
        RefusalError: another content type, charset or content encoding.
    """
    return _format_of(headers.content_type, headers.content_encoding, lines=lines)


@lru_cache(maxsize=64)
def _format_of(content_type: str, content_encoding: str, *, lines: bool) -> str:
    """See `body_format`; what clients send is nearly always the same."""
    if content_encoding.strip().lower() not in ("", "identity"):
        raise RefusalError(
            MEDIA,
            "The body must not be compressed: leave the header Content-Encoding out. A charset does not belong there.",
            headers=[("accept-encoding", "identity")],
        )
    if "," in content_type:
        raise RefusalError(MEDIA, "The header Content-Type must be given once, with one type.")
    media_type, _, parameters = content_type.partition(";")
    media_type = media_type.strip().lower()
    if not _utf8(parameters):
        raise RefusalError(MEDIA, "The body must be UTF-8.")
    if media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json")):
        return JSON
    if lines and media_type in _LINES_TYPES:
        return LINES
    accepted = "application/json, application/x-ndjson" if lines else "application/json"
    raise RefusalError(MEDIA, f"The content type must be one of: {accepted}.", headers=[("accept-post", accepted)])


def _utf8(parameters: str) -> bool:
    pairs = (parameter.partition("=") for parameter in parameters.split(";"))
    charsets = [value.strip().strip('"').lower() for name, _, value in pairs if name.strip().lower() == "charset"]
    return all(charset in _CHARSETS for charset in charsets)


def content_length(headers: Headers) -> int | None:
    """Return the length that the client announced, if it did.

    Raises:
        RefusalError: it is no length.
    """
    text = headers.content_length
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _LENGTH_DIGITS_MAX):
        raise RefusalError(MALFORMED, "The header Content-Length is not valid.")
    return int(text)


def idempotency_key(headers: Headers) -> str | None:
    """Return the id in the header `Idempotency-Key`: a structured-field string, or its bare characters.

    Raises:
        RefusalError: it is neither, or is given twice.
    """
    text = headers.idempotency_key
    if text is None:
        return None
    text = text.strip(" \t")
    if quoted := _QUOTED.fullmatch(text):
        return _ESCAPED.sub(r"\1", quoted[1])
    if _BARE.fullmatch(text):
        return text
    problem = Problem(
        "/header/Idempotency-Key", "must be one quoted string, or visible ASCII without quotes and blanks"
    )
    raise RefusalError(MALFORMED, "The header Idempotency-Key cannot be read.", errors=[problem])


def preferences(headers: Headers) -> Preferences:
    """Return the preferences we know (RFC 7240); of one given twice the first counts, the others are ignored."""
    if not headers.prefer:
        return _NO_PREFERENCES
    known: dict[str, str] = {}
    position = 0
    while position < len(headers.prefer):
        if match := _PREFERENCE.match(headers.prefer, position):
            known.setdefault(match["name"].lower(), match["quoted"] or match["value"] or "")
            position = match.end()
        rest = _TO_COMMA.match(headers.prefer, position)
        # A quote that never ends would stand still; what follows it is nobody's preference.
        position = rest.end() if rest and rest.end() > position else len(headers.prefer)
    wait = known.get("wait", "")
    seconds = int(wait) if wait.isascii() and wait.isdigit() and len(wait) <= _LENGTH_DIGITS_MAX else None
    return Preferences("respond-async" in known, None if seconds is None else min(seconds, _WAIT_SECONDS_MAX))
