"""The content type of a CSV row says how to read it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.csv_row import CSV_ROW, Dialect, charset_of, content_type_of, dialect_of, marks_problem


def test_the_usual_row_has_the_usual_type() -> None:
    assert content_type_of(Dialect()) == CSV_ROW == "text/csv; header=present"


@pytest.mark.parametrize(
    ("dialect", "parameters"),
    [
        (Dialect(delimiter=";"), '; delimiter=";"'),
        (Dialect(delimiter="\t"), "; delimiter=tab"),
        (Dialect(quote="'"), '; quote="\'"'),
        (Dialect(quote=""), '; quote=""'),
        (Dialect(charset="iso-8859-1"), "; charset=iso-8859-1"),
        (Dialect(";", "'", "koi8-r"), '; delimiter=";"; quote="\'"; charset=koi8-r'),
    ],
)
def test_only_what_differs_is_named(dialect: Dialect, parameters: str) -> None:
    assert content_type_of(dialect) == CSV_ROW + parameters


MARKS = st.sampled_from([chr(code) for code in range(32, 127)] + ["\t"])
CHARSETS = st.sampled_from(["utf-8", "us-ascii", "iso-8859-15", "windows-1252", "cp437", "koi8-u", "macintosh"])


@given(MARKS, MARKS | st.just(""), CHARSETS)
def test_every_dialect_comes_back(delimiter: str, quote: str, charset: str) -> None:
    dialect = Dialect(delimiter, quote, charset)

    assert dialect_of(content_type_of(dialect)) == (None if marks_problem(delimiter, quote) else dialect)


@pytest.mark.parametrize(
    ("spelled", "charset"),
    [
        ("UTF8", "utf-8"),
        ("latin-1", "iso-8859-1"),
        ("ISO_8859-15", "iso-8859-15"),
        ("cp1252", "windows-1252"),
        ("Windows-1252", "windows-1252"),
        ("ascii", "us-ascii"),
        ("macintosh", "macintosh"),
        ("utf-16", None),
        ("utf-8-sig", None),
        ("shift_jis", None),
        ("cp500", None),
        ("rot13", None),
        ("no\0such", None),
    ],
)
def test_an_encoding_goes_by_its_registered_name(spelled: str, charset: str | None) -> None:
    assert charset_of(spelled) == charset


@pytest.mark.parametrize(
    "charset",
    [
        "us-ascii",
        *(f"iso-8859-{part}" for part in range(1, 17) if part != 12),
        *(f"windows-125{n}" for n in range(9)),
        "koi8-r",
        "koi8-u",
        "macintosh",
        "cp437",
        "cp850",
        "cp852",
        "cp858",
        "cp866",
    ],
)
def test_every_charset_begins_with_ascii_and_has_one_byte_a_character(charset: str) -> None:
    ascii_text = bytes(range(128))

    assert ascii_text.decode(charset) == ascii_text.decode("ascii")
    assert all(len(bytes([byte, byte]).decode(charset, "replace")) == 2 for byte in range(128, 256))
    assert charset_of(charset) == charset
