"""How the content of a file is cut into rows."""

import contextlib
import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from file_watcher.mapping import row_mapper
from shared.contracts.csv_row import Dialect
from shared.contracts.errors import InvalidEventError
from shared.contracts.event import now
from shared.files.csv_file import CsvFile
from shared.files.file_format import FileFormat
from shared.files.rows import (
    ChunkReader,
    Piece,
    RecordCutter,
    Reject,
    Row,
    Skipped,
    UnreadableError,
    cut_array,
    cut_lines,
    cut_object,
    numbered_lines,
)

ROW_BYTES_MAX = 64


def lines(content: bytes) -> list[Piece]:
    return list(cut_lines(io.BytesIO(content), ROW_BYTES_MAX))


def records(content: bytes, *, complete: bool = True, row_bytes_max: int = 10_000) -> list[Piece]:
    return list(CsvFile(io.BytesIO(content), row_bytes_max, complete=complete).records())


def test_lines_end_at_line_feeds_alone_and_keep_their_numbers() -> None:
    content = b'\xef\xbb\xbf{"a": 1}\r\n\n  \n{"b": "\xe2\x80\xa8"}\n{"c": "x\ry"}'

    rows = lines(content)

    assert rows == [Row(1, b'{"a": 1}'), Row(4, b'{"b": "\xe2\x80\xa8"}'), Row(5, b'{"c": "x\ry"}')]


def test_a_line_over_the_limit_costs_itself_only() -> None:
    content = b"x" * 64 + b"\r\n" + b"y" * 65 + b"\n" + b"z" * 1000 + b"\nlast"

    rows = lines(content)

    assert rows == [
        Row(1, b"x" * 64),
        Reject(2, "is larger than 64 bytes"),
        Reject(3, "is larger than 64 bytes"),
        Row(4, b"last"),
    ]


@given(st.lists(st.binary(max_size=80)))
def test_cutting_lines_loses_nothing(parts: list[bytes]) -> None:
    """Every line is yielded with its number and bytes, is blank, or is rejected as too large."""
    content = b"\n".join(parts)

    rows = {row.number: row for row in lines(content) if not isinstance(row, Skipped)}

    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        plain = line.removesuffix(b"\r")
        if not plain or plain.isspace():
            assert len(plain) > ROW_BYTES_MAX or number not in rows
        elif len(plain) > ROW_BYTES_MAX:
            assert rows[number] == Reject(number, "is larger than 64 bytes")
        else:
            assert rows[number] == Row(number, plain)


def test_elements_of_an_array_keep_their_bytes() -> None:
    rows = list(cut_array(io.BytesIO(b'\xef\xbb\xbf [ {"a": 1.10} ,\n{"b": [1, {}]}, 3 ] '), ROW_BYTES_MAX))

    assert rows == [Row(1, b'{"a": 1.10}'), Row(2, b'{"b": [1, {}]}'), Row(3, b"3")]


def test_the_elements_before_the_cut_of_an_array_count() -> None:
    rows = cut_array(io.BytesIO(b'[{"a": 1}, {"b": 2}, {"c'), ROW_BYTES_MAX)

    assert [next(rows), next(rows)] == [Row(1, b'{"a": 1}'), Row(2, b'{"b": 2}')]
    with pytest.raises(UnreadableError, match=r"cut off \(element 3\)"):
        next(rows)


def test_one_object_is_one_row_and_has_a_limit() -> None:
    assert list(cut_object(io.BytesIO(b'\n{"a":\n1}\n'), ROW_BYTES_MAX)) == [Row(1, b'{"a":\n1}')]
    with pytest.raises(UnreadableError):
        list(cut_object(io.BytesIO(b"{" + b" " * 64 + b"}"), ROW_BYTES_MAX))


def test_the_header_is_read_without_its_byte_order_mark() -> None:
    table = CsvFile(io.BytesIO(b'\xef\xbb\xbf\xef\xbb\xbfid,"a ""b"""\r\n1,2\r\n'), 100, complete=True)

    assert table.columns.names == ["id", 'a "b"']
    assert table.header == b'id,"a ""b"""'
    assert list(table.records()) == [Row(2, b"1,2")]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"\n \n", "the file is empty"),
        (b",\n,,\n", "there is no header"),
        (b"a,a\n1,2\n", "twice"),
        (b"a,,b\n1,2,3\n", "without a name"),
        (b"a, \n", "without a name"),
        (b'a,"b\n1,2\n', "not valid CSV"),
        (b'a,"b"c\n1,2\n', "not valid CSV"),
        (b"a\rb\rc", "not valid CSV"),
        (b"a,\xff\n", "not UTF-8"),
        (b"id,amount", "no line end"),
        (b"x" * 70_000 + b"\n", "larger than"),
    ],
)
def test_a_header_that_names_no_fields_makes_the_file_unreadable(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        records(content, row_bytes_max=1_000_000)


def test_line_feeds_within_quotes_belong_to_the_record() -> None:
    content = b'id,text\n1,"a\r\n\r\nb, ""c"""\r\n2,d\n'

    rows = records(content)

    assert rows == [Row(2, b'1,"a\r\n\r\nb, ""c"""'), Row(5, b"2,d")]


@pytest.mark.parametrize(
    "after",
    [b'2,"ok"\n3,c\n', b'2,b\n3,"c\nd"\n', b'2,b\n3,"c\n'],
)
def test_an_open_quote_that_no_later_line_can_close_costs_its_own_line_only(after: bytes) -> None:
    rows = records(b'id,text\n1,"open\n' + after)

    assert rows[0] == Reject(2, "a quote is not closed")
    assert rows[1] == Row(3, after.split(b"\n")[0])
    assert len(rows) == 3


def test_an_open_quote_is_not_searched_for_its_end_for_ever() -> None:
    content = b'id,text\n1,"open\n' + b"2,b\n" * 20_000 + b'3,"\n'

    rows = records(content, row_bytes_max=1_000_000)

    assert rows[0] == Reject(2, "a quote is not closed")
    assert len(rows) == 20_002


@pytest.mark.parametrize("content", [b'id,text\n1,a\n2,"b\n3,c\n', b'id,text\n1,a\n2,"b\n3,c'])
def test_what_follows_a_quote_that_is_open_at_the_end_may_be_its_text(content: bytes) -> None:
    """None of it counts: a file that was cut off within a quoted text must not make events of the text's lines."""
    assert records(content, complete=False) == [Row(2, b"1,a")]
    row, rejected = records(content)
    assert row == Row(2, b"1,a")
    assert isinstance(rejected, Reject)
    assert rejected.number == 3
    assert "the file ends before it is closed" in rejected.reason


@pytest.mark.parametrize("last", [b"2,12", b'2,"12"', b'2,"1\n2"'])
def test_a_last_row_without_its_line_end_may_be_cut_off(last: bytes) -> None:
    """It is no row while the file may still be written, then it is rejected, or taken where the settings say so."""
    content = b"id,n\n1,2\n" + last

    accepting = CsvFile(io.BytesIO(content), 100, complete=True, form=FileFormat(last_row="accept"))

    assert records(content, complete=False) == [Row(2, b"1,2")]
    row, rejected = records(content)
    assert row == Row(2, b"1,2")
    assert isinstance(rejected, Reject)
    assert "last_row" in rejected.reason
    assert "ETLPAY_FILES_FORMATS_FILE" in rejected.reason
    assert list(accepting.records()) == [Row(2, b"1,2"), Row(3, last)]


def test_rows_that_hold_nothing_are_skipped_and_counted() -> None:
    content = b'id,n\r\n1,2\r\n,\r\n\r\n , \r\n"",""\r\n"",2\r\n'

    assert records(content) == [Row(2, b"1,2"), Row(7, b'"",2'), Skipped(4)]


@pytest.mark.parametrize("field", [b'","', b'""""', b'""","""'])
def test_quoted_delimiters_and_quotes_are_no_empty_row(field: bytes) -> None:
    assert records(b"id,n\n" + field + b",\n") == [Row(2, field + b",")]


def test_a_chunk_is_bounded_by_rows_and_by_the_bytes_of_its_events() -> None:
    """Each event repeats the header, so a long header makes small chunks."""
    rows = [Row(number, b"x" * 100) for number in range(1, 8)]

    def sizes(header: bytes, pieces_max: int, bytes_max: int) -> list[int]:
        chunks = ChunkReader(iter(rows), header=header)
        return [len(chunks.next_chunk(pieces_max, bytes_max).pieces) for _ in range(3)]

    assert sizes(b"", 3, 1_000_000) == [3, 3, 1]
    assert sizes(b"", 100, 900) == [3, 3, 1]
    assert sizes(b"y" * 600, 100, 900) == [1, 1, 1]


def test_a_chunk_ends_with_the_row_at_which_nothing_more_can_be_read() -> None:
    chunks = ChunkReader(cut_array(io.BytesIO(b'[{"a": 1}, {"b": 2}, {"c'), ROW_BYTES_MAX))

    first, second = chunks.next_chunk(1, 1_000), chunks.next_chunk(100, 1_000)

    assert (first.pieces, first.ended) == ([Row(1, b'{"a": 1}')], False)
    assert (second.pieces, second.ended) == ([Row(2, b'{"b": 2}')], True)
    assert second.fault is not None
    assert second.fault.number == 3
    assert "cut off" in second.fault.reason


FIELDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), max_size=12)


@given(st.lists(st.tuples(FIELDS.filter(str.strip), FIELDS, FIELDS), max_size=20))
def test_what_a_csv_writer_wrote_is_cut_into_the_same_records(table: list[tuple[str, str, str]]) -> None:
    written = io.StringIO(newline="")
    csv.writer(written, lineterminator="\r\n").writerows(table)
    lines = numbered_lines(io.BytesIO(written.getvalue().encode()), 10_000)

    rows = RecordCutter(lines, Dialect(), 10_000, complete=True, last_row_counts=False).records()

    read = [next(csv.reader(io.StringIO(row.body.decode(), newline=""))) for row in rows if isinstance(row, Row)]
    assert read == [list(fields) for fields in table]


def events_of(content: bytes) -> list[list[str]]:
    """Return the fields of what a file's rows are stored as."""
    table = CsvFile(io.BytesIO(content), 10_000, complete=True)
    mapper = row_mapper(table, "s", "f", id_field="id")
    stored = []
    for row in table.records():
        if isinstance(row, Row):
            with contextlib.suppress(InvalidEventError):
                document = mapper.map(row, now()).body.decode()
                stored.append(list(csv.reader(io.StringIO(document, newline="")))[1])
    return stored


@given(st.lists(st.tuples(FIELDS.filter(str.strip), FIELDS, FIELDS), min_size=1, max_size=4), st.data())
def test_no_row_is_made_of_a_file_that_was_cut_off(table: list[tuple[str, str, str]], data: st.DataObject) -> None:
    """Wherever the cut is, within quotes too: what is stored are rows of the whole file, from the first on."""
    written = io.StringIO(newline="")
    csv.writer(written, lineterminator="\n").writerows([("one", "two", "three"), *table])
    content = written.getvalue().encode()
    cut = data.draw(st.integers(0, len(content) - 1))

    try:
        stored = events_of(content[:cut])
    except UnreadableError:
        stored = []

    true_rows = [list(row) for row in table]
    assert all(row in true_rows for row in stored)
