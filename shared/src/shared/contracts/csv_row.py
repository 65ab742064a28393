"""A CSV row as it is stored: a document of a header and one row. Its content type says how to read it."""

import codecs
import re
from functools import lru_cache
from typing import Final

import msgspec

CSV_ROW: Final = "text/csv; header=present"
"""Commas, `"` and UTF-8. Other ways to write it stand in parameters after it, in the order of `Dialect`."""

_TAB: Final = "tab"
_CONTENT_TYPE: Final = re.compile(
    re.escape(CSV_ROW)
    + r'(?:; delimiter=(?:"(?P<delimiter>[ -~])"|(?P<tab>tab)))?(?:; quote="(?P<quote>[ -~]?)")?'
    + r"(?:; charset=(?P<charset>[a-z0-9-]{1,20}))?"
)
# A letter or digit would cut words, a point or a sign would cut numbers, the others have a meaning of their own.
_NO_MARK: Final = re.compile(r"[A-Za-z0-9.+\-\\]")

# By the name that Python gives them: one byte a character, and the first 128 are ASCII's, so a line feed is one byte.
_CHARSETS: Final[dict[str, str]] = {
    "utf-8": "utf-8",
    "ascii": "us-ascii",
    **{f"iso8859-{part}": f"iso-8859-{part}" for part in range(1, 17) if part != 12},  # noqa: PLR2004 - there is no part 12
    **{f"cp125{page}": f"windows-125{page}" for page in range(9)},
    **{f"cp{page}": f"cp{page}" for page in (437, 850, 852, 858, 866)},
    "koi8-r": "koi8-r",
    "koi8-u": "koi8-u",
    "mac-roman": "macintosh",
}
_CHARSET_NAMES: Final = frozenset(_CHARSETS.values())


class Dialect(msgspec.Struct, frozen=True, gc=False):
    """How a CSV row is written. `quote` may be empty: then a quote is a character like others."""

    delimiter: str = ","
    quote: str = '"'
    charset: str = "utf-8"


def content_type_of(dialect: Dialect) -> str:
    """Return the content type of a row; it names what differs from `CSV_ROW` and nothing else."""
    usual = Dialect()
    parts = [CSV_ROW]
    if dialect.delimiter != usual.delimiter:
        parts.append("delimiter=" + (_TAB if dialect.delimiter == "\t" else f'"{dialect.delimiter}"'))
    if dialect.quote != usual.quote:
        parts.append(f'quote="{dialect.quote}"')
    if dialect.charset != usual.charset:
        parts.append(f"charset={dialect.charset}")
    return "; ".join(parts)


@lru_cache(maxsize=256)
def dialect_of(content_type: str) -> Dialect | None:
    """Return how to read a row of this content type, or None where it is none that `content_type_of` gives."""
    match = _CONTENT_TYPE.fullmatch(content_type)
    if match is None:
        return None
    usual = Dialect()
    quote = usual.quote if match["quote"] is None else match["quote"]
    charset = match["charset"] or usual.charset
    dialect = Dialect("\t" if match["tab"] else match["delimiter"] or usual.delimiter, quote, charset)
    if charset not in _CHARSET_NAMES or marks_problem(dialect.delimiter, quote):
        return None
    return dialect


def charset_of(encoding: str) -> str | None:
    """Return the registered name of an encoding, however it is spelled, or None where rows cannot be read in it."""
    try:
        return _CHARSETS.get(codecs.lookup(encoding).name)
    except (LookupError, ValueError):
        return None


def marks_problem(delimiter: str, quote: str) -> str | None:
    """Return what is wrong with a delimiter and a quote, or None."""
    if len(delimiter) != 1 or not (delimiter == "\t" or " " <= delimiter <= "~") or _NO_MARK.match(delimiter):
        return "the delimiter must be one ASCII character, or a tab, and no letter, digit, point, sign or backslash"
    if len(quote) > 1 or (quote and (not " " < quote <= "~" or _NO_MARK.match(quote))):
        return "the quote must be one ASCII character and no letter, digit, point, sign or backslash; or empty: none"
    if delimiter in (quote, '"'):
        return "the delimiter must not be a quote"
    return None
