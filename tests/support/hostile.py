"""Hostile input: payloads, ids and names, each with what becomes of it. The canary in them may stand in no log."""

import enum
import uuid
from typing import Final, NamedTuple

from shared.contracts.event import SOURCE_CHARS_MAX

CANARY: Final = f"canary{uuid.uuid4().hex}"
_MARK: Final = CANARY.encode()


class Fate(enum.Enum):
    """What becomes of a payload."""

    STORED = "stored, and its record is SUCCESS"
    KEPT = "stored, and its record is FAILED"
    REFUSED = "refused, and absent"
    OPEN = "any of the three: how deep a parser goes is the interpreter's"

    @property
    def possible(self) -> tuple["Fate", ...]:
        """What it may turn out to be."""
        return (Fate.STORED, Fate.KEPT, Fate.REFUSED) if self is Fate.OPEN else (self,)


class Document(NamedTuple):
    """A payload. `fate` at HTTP and gRPC; `file` as the whole of a .json file. A queue message is never refused."""

    name: str
    body: bytes
    fate: Fate
    file: Fate
    queue: Fate


def _document(name: str, body: bytes, fate: Fate, *, file: Fate | None = None, queue: Fate | None = None) -> Document:
    of_queue = Fate.KEPT if fate is Fate.REFUSED else fate
    return Document(name, body, fate, file or fate, queue or of_queue)


def _value(name: str, value: bytes, fate: Fate) -> Document:
    """Return an object with a value that is hostile."""
    return _document(name, b'{"mark": "%b", "value": %b}' % (_MARK, value), fate)


def _nested(levels: int, fate: Fate) -> Document:
    return _value(f"{levels} levels", b"[" * levels + b"]" * levels, fate)


_OBJECT: Final = b'{"mark": "%b"}' % _MARK
DOCUMENTS: Final = (
    _value("NaN", b"NaN", Fate.REFUSED),
    _value("Infinity", b"Infinity", Fate.REFUSED),
    _value("-Infinity", b"-Infinity", Fate.REFUSED),
    _value("1e999", b"1e999", Fate.KEPT),
    _value("2^53+1", b"9007199254740993", Fate.STORED),
    _value("2^64", b"18446744073709551616", Fate.STORED),
    _value("5000 digits", b"9" * 5_000, Fate.KEPT),
    _value("a zero with an exponent that numeric cannot hold", b"0e2147483648", Fate.KEPT),
    _value("5000 decimals", b"0." + b"1" * 5_000, Fate.STORED),
    _value("17000 decimals", b"0." + b"1" * 17_000, Fate.KEPT),
    _document("duplicate keys", b'{"a": 1, "mark": "%b", "a": 2}' % _MARK, Fate.STORED),
    _nested(33, Fate.STORED),
    _nested(1_000, Fate.OPEN),
    _nested(100_000, Fate.REFUSED),
    _document("a million brackets", b"[" * 1_000_000, Fate.REFUSED),
    _document("a million brackets of objects", b'{"a":' * 200_000, Fate.REFUSED),
    _value("lone surrogate", b'"\\ud800"', Fate.REFUSED),
    _document("lone surrogate in a key", b'{"mark": "%b", "\\udfff": 1}' % _MARK, Fate.REFUSED),
    _value("surrogates in the wrong order", b'"\\udc00\\ud800"', Fate.REFUSED),
    _value("U+0000", b'"\\u0000"', Fate.KEPT),
    _document("U+0000 in a key", b'{"mark": "%b", "\\u0000": 1}' % _MARK, Fate.KEPT),
    _value("a NUL byte", b'"\x00"', Fate.REFUSED),
    _value("invalid UTF-8", b'"\xff"', Fate.REFUSED),
    _value("overlong UTF-8", b'"\xc0\xaf"', Fate.REFUSED),
    _value("a surrogate in UTF-8", b'"\xed\xa0\x80"', Fate.REFUSED),
    _document("invalid UTF-8 in a key", b'{"mark": "%b", "\xff": 1}' % _MARK, Fate.REFUSED),
    _document("UTF-16", _OBJECT.decode().encode("utf-16"), Fate.REFUSED),
    # A byte order mark before a file is the editor's, not the producer's.
    _document("BOM", b"\xef\xbb\xbf" + _OBJECT, Fate.REFUSED, file=Fate.STORED),
    _document("trailing garbage", _OBJECT + b"garbage", Fate.REFUSED),
    _document("two documents", _OBJECT + b" " + _OBJECT, Fate.REFUSED),
    _document("empty", b"", Fate.REFUSED),
    _document("blank", b" \t\r ", Fate.REFUSED),
    _document("number", b"1", Fate.REFUSED),
    _document("text", b'"%b"' % _MARK, Fate.REFUSED),
    _document("null", b"null", Fate.REFUSED),
    _document("true", b"true", Fate.REFUSED),
)


class Text(NamedTuple):
    """An id or a name."""

    name: str
    text: str
    is_id: bool
    """Taken as an id: it is data, and printable."""

    @property
    def is_source(self) -> bool:
        """Taken as a source, which is shorter."""
        return self.is_id and len(self.text) <= SOURCE_CHARS_MAX


TEXTS: Final = (
    Text("sql", f"{CANARY}'; drop table raw_events; --", is_id=True),
    Text("format", CANARY + "%s%n{0}{}", is_id=True),
    Text("jndi", f"${{jndi:ldap://127.0.0.1:1/{CANARY}}}", is_id=True),
    Text("climbing", f"../../etc/{CANARY}", is_id=True),
    Text("newline", f"{CANARY}\nlevel=error two", is_id=False),
    Text("carriage return", f"{CANARY}\r\nSet-Cookie: a=b", is_id=False),
    Text("escape codes", f"\x1b[2J{CANARY}\x1b]0;title\x07", is_id=False),
    Text("NUL", f"{CANARY}\x00b", is_id=False),
    Text("a megabyte", CANARY.ljust(1_000_000, "x"), is_id=False),
    Text("one too long", CANARY.ljust(256, "x"), is_id=False),
    Text("the longest", CANARY.ljust(255, "x"), is_id=True),
    Text("right to left", f"\u202e{CANARY}\u05d0\u05d1 gpj.exe", is_id=True),
    Text("homoglyphs", f"p\u0430yp\u0430l{CANARY}", is_id=True),
    Text("a heart and a family", f"\u2764\ufe0f{CANARY}\U0001f468\u200d\U0001f469\u200d\U0001f467", is_id=True),
    Text("line separator", f"{CANARY}\u2028b", is_id=False),
    Text("markup", f"<script>alert('{CANARY}')</script>", is_id=True),
    Text("a comma", f"{CANARY},b;c=d", is_id=True),
)

# A lone surrogate, as an escape of JSON and as bytes that only look like UTF-8.
SURROGATE_ESCAPED: Final = f"{CANARY}\\ud800".encode()
SURROGATE_BYTES: Final = _MARK + b"\xed\xa0\x80"
