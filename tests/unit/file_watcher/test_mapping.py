"""How a row becomes an envelope."""

from dataclasses import dataclass

import pytest

from file_watcher.mapping import RowMapper, row_mapper
from shared.contracts.csv_row import CSV_ROW, Dialect
from shared.contracts.errors import InvalidEventError
from shared.contracts.event import Channel, identify, now
from shared.files.columns import Columns, RowScreen, find_id
from shared.files.rows import Row, UnreadableError

RECEIVED_AT = now()


@dataclass
class Table:
    """The beginning of a CSV file."""

    columns: Columns
    screen: RowScreen


def json_rows(id_field: str = "id") -> RowMapper:
    return row_mapper(None, "shop", "a.json", id_field=id_field, key_prefix="derived:")


def csv_rows(header: bytes = b"id,amount", dialect: Dialect | None = None) -> RowMapper:
    dialect = dialect or Dialect()
    names = [name.strip() for name in header.decode(dialect.charset).split(dialect.delimiter)]
    id_index = find_id(names, "id")
    table = Table(Columns(header, names, dialect, id_index, 1), RowScreen(names, id_index, totals=True))
    return row_mapper(table, "shop", "a.csv", id_field="id", key_prefix="derived:")


def test_the_body_is_the_rows_bytes() -> None:
    row = Row(7, b' {"id": "e1",  "amount": 1.10, "amount": 1e999, "x": "\\u0000"}')

    event = json_rows().map(row, RECEIVED_AT)

    assert event.body == row.body
    assert event.event_id == identify("shop", "e1")
    assert (event.source, event.channel, event.idempotency_key) == ("shop", Channel.FILE, "e1")
    assert (event.origin, event.received_at, event.content_type) == ("a.json:7", RECEIVED_AT, "application/json")


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b'{"id": "e"}', "e"),
        (b'{"id": 0}', "0"),
        (b'{"id": -7}', "-7"),
        (b'{"id": 123456789012345678901234567890}', "123456789012345678901234567890"),
        (b'{"id": null}', "derived:1"),
        (b'{"a": {"id": "inner"}}', "derived:1"),
        ('{"id": "é"}'.encode(), "é"),
    ],
)
def test_a_row_has_its_own_id_or_a_derived_one(body: bytes, key: str) -> None:
    event = json_rows().map(Row(1, body), RECEIVED_AT)

    assert event.idempotency_key == key
    assert event.derived == key.startswith("derived:")
    assert event.event_id == identify("shop", key, derived=event.derived)


def test_the_name_of_the_id_is_a_setting() -> None:
    assert json_rows("ref").map(Row(1, b'{"id": "a", "ref": "b"}'), RECEIVED_AT).idempotency_key == "b"


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        (b"broken", "", "valid JSON"),
        (b'{"a": 1', "", "valid JSON"),
        (b'{"a": 1} {"b": 2}', "", "more than one JSON document"),
        (b'{"a": 1},{"b": 2}', "", "valid JSON"),
        (b'{"a": NaN}', "", "valid JSON"),
        (b"[1]", "", "object"),
        (b'"text"', "", "object"),
        (b"1", "", "object"),
        (b'{"a": "\xff"}', "", "UTF-8"),
        (b'{"id": "\xff"}', "", "UTF-8"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "", "nested"),
        (b'{"id": 1.5}', "/id", "string or an integer"),
        (b'{"id": true}', "/id", "string or an integer"),
        (b'{"id": {}}', "/id", "string or an integer"),
        (b'{"id": ""}', "/id", "1 to 255"),
        (b'{"id": "a\\nb"}', "/id", "printable"),
        (b'{"id": "' + b"x" * 256 + b'"}', "/id", "1 to 255"),
        (b'{"id": ' + b"9" * 256 + b"}", "/id", "1 to 255"),
    ],
)
def test_what_cannot_be_an_event_is_refused_without_its_value(body: bytes, pointer: str, detail: str) -> None:
    with pytest.raises(InvalidEventError) as refused:
        json_rows().map(Row(1, body), RECEIVED_AT)

    (problem,) = refused.value.problems
    assert problem.pointer == pointer
    assert detail in problem.detail


def test_the_pointer_to_an_odd_id_field_is_escaped() -> None:
    with pytest.raises(InvalidEventError) as refused:
        json_rows("a/b~c").map(Row(1, b'{"a/b~c": true}'), RECEIVED_AT)

    assert refused.value.problems[0].pointer == "/a~1b~0c"


def test_a_csv_body_can_be_read_alone() -> None:
    event = csv_rows().map(Row(3, b'e1,"1,10"'), RECEIVED_AT)

    assert event.body == b'id,amount\ne1,"1,10"'
    assert event.content_type == CSV_ROW
    assert (event.idempotency_key, event.origin) == ("e1", "a.csv:3")


@pytest.mark.parametrize(
    ("header", "record", "key"),
    [
        (b"id,amount", b"e1,2", "e1"),
        (b"id,amount", b'"e ""1""",2', 'e "1"'),
        (b"id,amount", b",2", "derived:1"),
        (b"amount,id", b"2,e1", "e1"),
        (b"amount,currency", b"2,EUR", "derived:1"),
        (b"amount, id", b"2,e1", "e1"),
        (b"ID ,amount", b"e1,2", "e1"),
    ],
)
def test_a_record_has_its_own_id_or_a_derived_one(header: bytes, record: bytes, key: str) -> None:
    assert csv_rows(header).map(Row(1, record), RECEIVED_AT).idempotency_key == key


@pytest.mark.parametrize(
    ("record", "detail"),
    [
        (b"1", "has 1 fields where the header has 2"),
        (b"1,2,3", "has 3 fields"),
        (b'1,"2,3', "not valid CSV"),
        (b'1,"2"3', "not valid CSV"),
        (b'1,19" x', "a quote within a field"),
        (b'1,19" x 12" shelf', "a quote within a field"),
        (b'1, "2"', "a quote within a field"),
        (b"id,amount", "the header once more"),
        (b"\xef\xbb\xbfID, Amount", "the header once more"),
        (b"Total,3", "looks like a total"),
        (b",3,", "has 3 fields"),
        (b"1,2\r3,4", "not valid CSV"),
        (b"1,\xff", "UTF-8"),
        (b'"\xff",1', "UTF-8"),
        (b"a\tb,1", "printable"),
    ],
)
def test_a_record_that_fits_no_header_is_refused(record: bytes, detail: str) -> None:
    with pytest.raises(InvalidEventError, match=detail):
        csv_rows().map(Row(1, record), RECEIVED_AT)


def test_after_another_header_nothing_is_read() -> None:
    """The rows after it have their columns in another order."""
    with pytest.raises(UnreadableError, match="another header"):
        csv_rows(b"id,amount").map(Row(7, b"amount,id"), RECEIVED_AT)


def test_a_row_with_an_id_is_no_total() -> None:
    event = csv_rows(b"payer,amount,id").map(Row(1, b"Total,100,e1"), RECEIVED_AT)

    assert event.idempotency_key == "e1"


def test_how_a_row_is_written_travels_with_it() -> None:
    dialect = Dialect(delimiter=";", quote="'", charset="windows-1252")
    header, record = "id;größe".encode("windows-1252"), "e1;'a;b €'".encode("windows-1252")

    event = csv_rows(header, dialect).map(Row(1, record), RECEIVED_AT)

    assert event.body == header + b"\n" + record
    assert event.content_type == 'text/csv; header=present; delimiter=";"; quote="\'"; charset=windows-1252'
