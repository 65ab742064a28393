"""CSV and JSON files as people really write them: what becomes an event, what is rejected, what refuses the file."""

import gzip
import io
from typing import NamedTuple

import msgspec
import pytest
import zstandard

from file_watcher.mapping import row_mapper
from processor.programs.active import NO_PIPELINES
from processor.stages.transform import transform
from shared.contracts.event import now
from shared.files.file_format import FileFormat
from shared.files.limits import USUAL_LIMITS
from shared.files.reading import kind_of, open_rows
from shared.files.rows import UnreadableError
from shared.wire import decode_batch, encode_batch

SETTING = "ETLPAY_FILES_FORMATS_FILE"


class Taken(NamedTuple):
    """What came of a file: the results of its events by their keys, the reasons by line, how many rows were empty."""

    events: dict[str, dict[str, str]]
    rejects: dict[int, str]
    skipped: int


def take(name: str, content: bytes, **form: object) -> Taken:
    """Read a file as the inbox does, and process its events. Raises UnreadableError where nothing of it counts."""
    read = msgspec.convert(form, FileFormat)
    opened = open_rows(io.BytesIO(content), kind_of(name), USUAL_LIMITS, form=read)
    mapper = row_mapper(opened.csv, "shop", name, id_field="id", key_prefix="line ")
    events: dict[str, dict[str, str]] = {}
    rejects: dict[int, str] = {}
    skipped = 0
    chunk, chunks = None, opened.chunks
    while chunk is None or not chunk.ended:
        chunk = chunks.next_chunk(500, 512 * 1024)
        mapped = mapper.map_chunk(chunk, now())
        for event in decode_batch(encode_batch(mapped.events)):
            draft = transform(event, NO_PIPELINES)
            assert draft.errors == ()
            events[event.idempotency_key] = msgspec.json.decode(event.body if draft.result is None else draft.result)
        rejects |= {reject.number: reject.reason for reject in mapped.rejects}
        skipped += mapped.skipped
    return Taken(events, rejects, skipped)


@pytest.mark.parametrize(
    "content",
    [
        b"id;amount;currency\r\ns1;10.50;EUR\r\ns2;20.00;EUR\r\n",
        b"id\tamount\tcurrency\ns1\t10.50\tEUR\ns2\t20.00\tEUR\n",
        b"id|amount|currency\ns1|10.50|EUR\ns2|20.00|EUR\n",
        b"id,amount,currency\ns1,10.50,EUR\ns2,20.00,EUR\n",
        b"sep=;\r\nid;amount;currency\r\ns1;10.50;EUR\r\ns2;20.00;EUR\r\n",
        b"sep=,\r\nid,amount,currency\r\ns1,10.50,EUR\r\ns2,20.00,EUR\r\n",
        b'\xef\xbb\xbf"sep=^"\nid^amount^currency\ns1^10.50^EUR\ns2^20.00^EUR\n',
        b"\xef\xbb\xbf\xef\xbb\xbfid,amount,currency\ns1,10.50,EUR\ns2,20.00,EUR\n",
        b'id;"amount";currency\ns1;"10.50";EUR\ns2;20.00;"EUR"\n',
    ],
)
def test_delimiters_and_marks_are_found(content: bytes) -> None:
    taken = take("a.csv", content)

    row = {"id": "s1", "amount": "10.50", "currency": "EUR"}
    assert taken == ({"s1": row, "s2": {"id": "s2", "amount": "20.00", "currency": "EUR"}}, {}, 0)


def test_a_decimal_comma_stays_what_it_is() -> None:
    taken = take("a.csv", b"id;amount;currency\r\nsd-1;10,50;EUR\r\nsd-2;20;EUR\r\n")

    assert [row["amount"] for row in taken.events.values()] == ["10,50", "20"]


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"amount, id, currency\n10.50, hs-1, EUR\n", ["amount", "id", "currency"]),
        (b"Amount,ID\n10.50, hs-1\n", ["Amount", "ID"]),
    ],
)
def test_the_id_column_is_found_whatever_its_case_and_blanks(content: bytes, names: list[str]) -> None:
    """The id itself is taken as it was given, and so is every value; names lose the blanks around them."""
    taken = take("a.csv", content)

    assert list(taken.events) == [" hs-1"]
    assert list(taken.events[" hs-1"]) == names


def test_rows_of_delimiters_alone_are_skipped_and_counted() -> None:
    taken = take("a.csv", b"id,amount,currency\r\ncr-1,10.50,EUR\r\n,,\r\n,,\r\ncr-2,20.00,EUR\r\n,,\r\n")

    assert list(taken.events) == ["cr-1", "cr-2"]
    assert taken.rejects == {}
    assert taken.skipped == 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"hl-1,10.50,EUR\nhl-2,20.00,EUR\nhl-3,30.00,EUR\n", "looks like data: column 2 is a number"),
        (b"hl-9,90.00,EUR\n", "looks like data: column 2 is a number"),
        (b"2026-11-27,rent\n2026-11-28,food\n", "looks like data: column 1 is a date"),
        (b"31.12.2026;rent\n", "looks like data: column 1 is a date"),
        (b"id,3d7c1f6e-52aa-4d2b-9c55-0a1b2c3d4e5f\n", "looks like data: column 2 is a UUID"),
        (b"hl-1,EUR\nhl-2,USD\n", "looks like data: column 1 is as in the rows"),
        (b"alice,EUR\nbob,EUR\n", "looks like data: column 2 is as in the rows"),
        (b"id,,amount\n1,2,3\n", "a column without a name (column 2)"),
        (b"id,amount, id\n1,2,3\n", "names a column twice (columns 1, 3)"),
        (b"ID,Id\n1,2\n", "two columns that may hold the id"),
        (b"Account,DE00 TEST 0001\nBalance,100.00\n\nid,amount\npa-1,10.50\npa-2,20.00\nTotal,30.50\n", "line 4 looks"),
        (b"Account,X\nOwner,Y\n\npayment,amount\npa-1,10.50\npa-2,20.00\n", "line 4 looks like a header"),
        (b"Report\nid,amount\n1,2\n3,4\n", "line 2 has 2 fields where line 1, read as the header, has 1"),
        (b"Report\nid;amount\n1;2\n3;4\n", "line 2 has 2 fields where line 1, read as the header, has 1"),
        (b"Bank,of,X\nid,amount\n1,2\n3,4\n", "line 2 has 2 fields where line 1, read as the header, has 3"),
        (b"id,amount\n1,2,3\n4,5,6\n7,8\n", "line 2 has 3 fields where line 1, read as the header, has 2"),
        (b"id,amount\n1,2\n\nTotal,2\n", "line 4 looks like a total"),
        (b"payer,note,amount\nA,x,2\n,GESAMT:,2\n", "line 3 looks like a total"),
        (b"id,amount\n1,2\namount,id\n3,4\n", "line 3 looks like a header"),
        (b"id;amount,EUR\n1;10,50\n2;20,00\n", "delimited by commas or by semicolons"),
        (b"a;b|c\n1;2|3\n", "delimited by semicolons or by bars"),
        (b"id,Gr\xf6\xdfe\r\nl1-1,10.50\r\n", "the header (line 1) is not UTF-8; give `encoding`"),
        (b"id,a\x00\n1,2\n", "control characters"),
        (b"sep=x\nid,a\n1,2\n", "`sep=` names no delimiter"),
        (b'id,19" size\n1,2\n', "a quote is within a field"),
    ],
)
def test_a_file_that_is_not_what_it_seems_is_refused_as_a_whole(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError) as refused:
        take("a.csv", content)

    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("content", "form", "keys"),
    [
        (b"hl-1,10.50\nhl-2,20.00\n", {"header": ["id", "amount"]}, ["hl-1", "hl-2"]),
        (b"hl-1;10.50\n", {"header": ["id", "amount"]}, ["hl-1"]),
        (b"id,2025,2026\n1,2,3\n", {"header": ["id", "2025", "2026"], "skip_lines": 1}, ["1"]),
        (b"Account,X\nBalance,1\n\nid,amount\n1,2\n", {"skip_lines": 3}, ["1"]),
        (b"id,amount\n1,2\nTotal,2\n", {"total_line": "reject"}, ["1"]),
        (b"id,amount\n1,2\nTotal,2\n", {"total_line": "accept"}, ["1", "Total"]),
        (b"id;amount,EUR\n1;10,50\n", {"delimiter": ";"}, ["1"]),
        (b"a;b|id\n1;2|3\n", {"delimiter": "|"}, ["3"]),
        (b"id,Gr\xf6\xdfe\r\nl1-1,\xe4\r\n", {"encoding": "latin-1"}, ["l1-1"]),
        (b'id\tsize\n1\t19" wide\n', {"delimiter": "tab", "quote": ""}, ["1"]),
        (b"id,size\n1,'a,b'\n", {"quote": "'"}, ["1"]),
        (b"id,amount\n1,2\n2,25", {"last_row": "accept"}, ["1", "2"]),
    ],
)
def test_the_settings_of_a_source_say_how_its_files_are_written(
    content: bytes, form: dict[str, object], keys: list[str]
) -> None:
    taken = take("a.csv", content, **form)

    assert list(taken.events) == keys


@pytest.mark.parametrize(
    "form",
    [
        {"delimiter": ";"},
        {"delimiter": "\t", "quote": "", "encoding": "windows-1252"},
        {"delimiter": "tab", "encoding": "ISO_8859-15"},
        {"quote": "'", "encoding": "utf8"},
    ],
)
def test_a_stored_row_can_be_read_alone(form: dict[str, object]) -> None:
    """Of a file without a header too: its names come before each row, written as the row is."""
    read = msgspec.convert(form, FileFormat).dialect(",")
    row = read.delimiter.join(["ä1", "€"]).encode(read.charset) + b"\n"

    taken = take("a.csv", row, header=["id", "größe"], **form)

    assert taken.events == {"ä1": {"id": "ä1", "größe": "€"}}


def test_the_names_of_a_file_without_a_header_are_not_a_row() -> None:
    taken = take("a.csv", b"id,amount\n1,2\n", header=["id", "amount"])

    assert list(taken.events) == ["1"]
    assert "the header once more" in taken.rejects[1]


def test_files_that_were_put_one_after_the_other_have_their_rows() -> None:
    content = b"\xef\xbb\xbfid,amount\ncc-1,10.50\n\xef\xbb\xbfid,amount\ncc-2,20.00\n"

    taken = take("a.csv", content)

    assert list(taken.events) == ["cc-1", "cc-2"]
    assert "the header once more" in taken.rejects[3]


def test_a_total_or_another_header_far_down_is_never_an_event() -> None:
    """What is beyond the first rows cannot refuse what was published before."""
    rows = b"".join(b"%d,2\n" % number for number in range(500))

    total = take("a.csv", b"id,amount\n" + rows + b"Total,1000\n")
    header = take("a.csv", b"id,amount\n" + rows + b"amount,id\n7,8\n")

    assert len(total.events) == len(header.events) == 500
    assert "looks like a total" in total.rejects[502]
    assert "another header begins" in header.rejects[502]


def test_a_ragged_row_in_a_good_file_costs_itself_only() -> None:
    taken = take("a.csv", b"id,amount\n1\n2,2\n3,3\n4,4,4\n")

    assert list(taken.events) == ["2", "3"]
    assert list(taken.rejects) == [2, 5]


def test_quotes_within_fields_have_one_reason() -> None:
    content = b'id,item\nim-1,19" monitor\nim-2,cable\nim-3,24" monitor\nim-4,19" x 12" shelf\nim-5,"19"" x"\n'

    taken = take("a.csv", content)

    assert list(taken.events) == ["im-2", "im-5"]
    assert list(taken.rejects) == [2, 4, 5]
    assert all("a quote within a field" in reason for reason in taken.rejects.values())


def test_a_blank_before_a_quote_has_a_reason() -> None:
    taken = take("a.csv", b'id, note, amount\nsq-1, "x, y", 10.50\nsq-2, "z", 20.00\nsq-3,z,1\n')

    assert list(taken.events) == ["sq-3"]
    assert all("a quote within a field" in reason for reason in taken.rejects.values())


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.zst"])
def test_a_cut_row_is_rejected_packed_or_not(name: str) -> None:
    content = b"id,currency,amount\n16,EUR,1\n17,EUR,25"
    packed = {"v": content, "z": gzip.compress(content), "t": zstandard.compress(content)}[name[-1]]

    taken = take(name, packed)

    assert list(taken.events) == ["16"]
    assert "no line end" in taken.rejects[3]


def test_an_object_without_its_line_end_counts() -> None:
    taken = take("a.ndjson", b'{"id": "1"}\n{"id": "2"}')

    assert list(taken.events) == ["1", "2"]


@pytest.mark.parametrize("name", ["a.csv", "a.ndjson", "a.json", "a.json.gz"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_named(name: str, encoding: str) -> None:
    text = "id,amount\r\nu6-1,10.50\r\n" if "csv" in name else '{"id":"u8-1","amount":1.10}\r\n{"id":"u8-2"}\r\n'
    content = text.encode(encoding)

    with pytest.raises(UnreadableError, match="UTF-16"):
        take(name, gzip.compress(content) if name.endswith("gz") else content)


@pytest.mark.parametrize("name", ["a.csv", "a.ndjson", "a.json", "a.csv.gz", "a.ndjson.gz"])
@pytest.mark.parametrize("content", [b"", b" \r\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_has_the_same_reason_in_every_format(name: str, content: bytes) -> None:
    with pytest.raises(UnreadableError, match="the file is empty"):
        take(name, gzip.compress(content) if name.endswith("gz") else content)


@pytest.mark.parametrize(
    "content",
    [
        b'half a line"}\n{"id":"2","amount":2.20}\n{"id":"3","amount":3.30}\n',
        b'{"id":"1","amou\n{"id":"2","amount":2.20}\n{"id":"3","amount":3.30}\n',
        b'{"id":"1","amount":1}{"id":"x"}\n{"id":"2","amount":2.20}\n{"id":"3","amount":3.30}\n',
        b'{"id":"1","amount":\n{"id":"2","amount":2.20}\n{"id":"3","amount":3.30}\n',
        b'[1]\n{"id":"2","amount":2.20}\n{"id":"3","amount":3.30}\n',
    ],
)
def test_lines_are_lines_whatever_the_file_is_called(content: bytes) -> None:
    assert take("a.json", content) == take("a.ndjson", content)
    assert list(take("a.json", content).events) == ["2", "3"]


@pytest.mark.parametrize(
    "content",
    [
        b'{"id":"co-1","amount":1.10}{"id":"co-2","amount":2.20}',
        b'{\n  "id": "ps-1",\n  "amount": 1.10\n}\n{\n  "id": "ps-2",\n  "amount": 2.20\n}\n',
    ],
)
def test_documents_in_a_row_have_a_reason_of_their_own(content: bytes) -> None:
    taken = take("a.json", content)

    assert taken.events == {}
    assert "more than one JSON document" in taken.rejects[1]


def test_many_documents_in_a_row_have_a_reason_of_their_own() -> None:
    content = b'{\n  "id": "ps-1",\n  "amount": 1.10\n}\n' * 50_000

    with pytest.raises(UnreadableError, match="more than one JSON document"):
        list(open_rows(io.BytesIO(content), kind_of("a.json"), USUAL_LIMITS).chunks.pieces)


def test_one_object_that_wraps_an_array_is_one_event() -> None:
    taken = take("a.json", b'{"object":"list",\n"data":[\n{"id":"w-1"},\n{"id":"w-2"}\n],\n"has_more":false}')

    assert list(taken.events) == ["line 1"]
