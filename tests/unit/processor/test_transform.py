"""Whatever a body holds becomes a record: a result, or a reason that repeats nothing of it."""

import decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.payload import same_payload
from processor.programs.active import NO_PIPELINES
from processor.stages.transform import transform
from shared.contracts.csv_row import CSV_ROW
from shared.contracts.errors import Problem
from shared.contracts.payload import MORE_THAN_ONE
from shared.contracts.result import RecordStatus
from support.events import event

JSON = "application/json"
CSV_TABS = f"{CSV_ROW}; delimiter=tab; charset=koi8-r"


# Beyond a megabyte a body is checked without its texts in memory.
SIZES = pytest.mark.parametrize("blanks", [b"", b" " * 1_100_000], ids=["small", "large"])


@SIZES
@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b' {"a": 1}\r\n',
        b'{"a":9007199254740993}',
        b'{"a":18446744073709551616}',
        b'{"a":0.1000000000000000055511151231257827}',
        b'{"a":1e308}',
        b'{"a":1e-16383}',
        b'{"a":0e1073741823}',
        b'{"a":-0.' + b"0" * 16_000 + b"1e16001}",
        b'{"a":-0.0E+0001}',
        b'{"a":"0e2147483648"}',
        b'{"a":"0e8b4f6e-12345"}',
        b'{"a":0.' + b"9" * 16_383 + b"}",
        b'{"a":"1e-99999"}',
        b'{"a":1,"a":2}',
        b'{"a":' + b"[" * 33 + b"]" * 33 + b"}",
        b'{"a":"\\\\u0000"}',
        '{"a":"\u2028 e\u0301 \U0001f4b6"}'.encode(),
    ],
)
def test_a_json_object_is_its_own_result(body: bytes, blanks: bytes) -> None:
    processed = transform(event(blanks + body), NO_PIPELINES)

    assert processed.status is RecordStatus.SUCCESS
    assert processed.result is None
    assert processed.errors == ()


@SIZES
@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "must be valid JSON"),
        (b"   ", "must be valid JSON"),
        (b'{"a":NaN}', "must be valid JSON"),
        (b'{"a":Infinity}', "must be valid JSON"),
        (b'{"a":-Infinity}', "must be valid JSON"),
        (b'{"a":1e999}', "holds a number out of range"),
        (b'{"a":-1e999}', "holds a number out of range"),
        (b'{"a":' + b"9" * 5_000 + b"}", "holds a number out of range"),
        (b'{"a":1e-16384}', "holds a number out of range"),
        (b'{"a":[{"b":1.5E-16383}]}', "holds a number out of range"),
        (b'{"a":0.' + b"9" * 16_384 + b"}", "holds a number out of range"),
        (b'{"a":1e-99999999999999999999}', "holds a number out of range"),
        (b'{"a":0e2147483648}', "holds a number out of range"),
        (b'{"a":-0e9999999999}', "holds a number out of range"),
        (b'{"a":[{"b":0.00E+1073741824}]}', "holds a number out of range"),
        (b'{"a":0e' + b"9" * 5_000 + b"}", "holds a number out of range"),
        (b'{"a":0e-16384}', "holds a number out of range"),
        (b'{"a":0.' + b"0" * 16_000 + b"1e147073}", "holds a number out of range"),
        (b'{"a":0.' + b"0" * 10_000 + b"1e999999}", "holds a number out of range"),
        (b'{"a":1e200000}', "holds a number out of range"),
        (b'{"a":[' + b"{}," * 600_000 + b"{}]}", "holds too many values"),
        (b'{"a":' + b"[" * 1_000 + b"]" * 1_000 + b"}", "is nested too deeply"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "is nested too deeply"),
        (b"[" * 400_000, "is nested too deeply"),
        (b'{"a":"\\ud800"}', "must be valid JSON"),
        (b'{"\\udfff":1}', "must be valid JSON"),
        (b'{"a":"\\u0000"}', "holds U+0000, which PostgreSQL text cannot"),
        (b'{"\\u0000":1}', "holds U+0000, which PostgreSQL text cannot"),
        (b'{"a":"\\\\\\u0000"}', "holds U+0000, which PostgreSQL text cannot"),
        (b'{"a":"\x00"}', "must be valid JSON"),
        (b'{"a":"\xff"}', "must be UTF-8"),
        (b'{"a":"\xc0\xaf"}', "must be UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', "must be UTF-8"),
        ('{"a":1}'.encode("utf-16"), "must be valid JSON"),
        (b"\xef\xbb\xbf{}", "must be valid JSON"),
        (b"{} x", "must be valid JSON"),
        (b"{}{}", MORE_THAN_ONE),
        (b'{"a":1}\n{"a":2}', MORE_THAN_ONE),
        (b"{},{}", "must be valid JSON"),
        (b"{'a':1}", "must be valid JSON"),
        (b'{"a":1,}', "must be valid JSON"),
        (b'{"a":01}', "must be valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        (b"1", "must be a JSON object"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_hostile_body_is_kept_with_its_reason(body: bytes, detail: str, blanks: bytes) -> None:
    processed = transform(event(blanks + body), NO_PIPELINES)

    assert processed.status is RecordStatus.FAILED
    assert processed.result is None
    assert processed.errors == (Problem("", detail),)


@given(body=st.binary(max_size=200), content_type=st.sampled_from([JSON, CSV_ROW, CSV_TABS, "", "text/plain"]))
def test_no_bytes_at_all_stop_the_transformation(body: bytes, content_type: str) -> None:
    processed = transform(event(body, content_type=content_type), NO_PIPELINES)

    assert (processed.status is RecordStatus.FAILED) == bool(processed.errors)


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (b"id,amount\n1,12.50", {"id": "1", "amount": "12.50"}),
        (b"id,amount\r\n1,0012\r", {"id": "1", "amount": "0012"}),
        (b'id,note\n1,"a, ""b"""', {"id": "1", "note": 'a, "b"'}),
        (b'id,note\n1,"first\nsecond\n\nlast"', {"id": "1", "note": "first\nsecond\n\nlast"}),
        (b'"a\nb",c\n1,2', {"a\nb": "1", "c": "2"}),
        ("a\nx\u2028y\u0085z".encode(), {"a": "x\u2028y\u0085z"}),
        (b"a,b\n,", {"a": "", "b": ""}),
        (b"a\n" + b"x" * 131_073, {"a": "x" * 131_073}),
        (b"a, b ,\tc\n1, 2,3 ", {"a": "1", "b": " 2", "c": "3 "}),
        (b'a,"b"\n1,2', {"a": "1", "b": "2"}),
        (b"a, a\n1,2", {"a": "1", " a": "2"}),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_csv_row_becomes_an_object_of_unchanged_strings(body: bytes, result: dict[str, str]) -> None:
    processed = transform(event(body, content_type=CSV_ROW), NO_PIPELINES)

    assert processed.status is RecordStatus.SUCCESS
    assert processed.result is not None
    assert msgspec.json.decode(processed.result) == result


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "must be a CSV header and one row"),
        (b"a", "must be a CSV header and one row"),
        (b"a\n1\n2", "must be a CSV header and one row"),
        (b'a\n"open', "must be a CSV header and one row"),
        (b'a\n"x"y', "must be a CSV header and one row"),
        (b"a\n1\r2", "must be a CSV header and one row"),
        (b"a\n", "has another number of fields than its header"),
        (b"\n1", "has another number of fields than its header"),
        (b"a\n1\n", "must be a CSV header and one row"),
        (b"a,b\n1", "has another number of fields than its header"),
        (b"a,a\n1,2", "has a header that names a column twice"),
        (b"a\n\xff", "must be UTF-8"),
        (b"a\n\x00", "holds U+0000, which PostgreSQL text cannot"),
    ],
)
def test_a_broken_csv_row_is_kept_with_its_reason(body: bytes, detail: str) -> None:
    processed = transform(event(body, content_type=CSV_ROW), NO_PIPELINES)

    assert processed.status is RecordStatus.FAILED
    assert processed.errors == (Problem("", detail),)


@pytest.mark.parametrize(
    ("parameters", "body", "result"),
    [
        ('; delimiter=";"', b"id;amount\n1;10,50", {"id": "1", "amount": "10,50"}),
        ("; delimiter=tab", b'id\tnote\n1\t"a\tb"', {"id": "1", "note": "a\tb"}),
        ('; quote="\'"', b"id,note\n1,'a,\"b'", {"id": "1", "note": 'a,"b'}),
        ('; quote=""', b'id,note\n1,19" x', {"id": "1", "note": '19" x'}),
        ("; charset=iso-8859-1", b"id,gr\xf6\xdfe\n1,\xe4", {"id": "1", "größe": "ä"}),
        ('; delimiter="|"; charset=windows-1252', b"id|price\n1|\x80", {"id": "1", "price": "€"}),
    ],
)
def test_a_row_is_read_as_its_content_type_says(parameters: str, body: bytes, result: dict[str, str]) -> None:
    processed = transform(event(body, content_type=CSV_ROW + parameters), NO_PIPELINES)

    assert processed.status is RecordStatus.SUCCESS
    assert processed.result is not None
    assert msgspec.json.decode(processed.result) == result


@pytest.mark.parametrize(
    "content_type",
    [
        "text/csv",
        "text/csv; header=absent",
        f"{CSV_ROW}; charset=utf-16",
        f"{CSV_ROW}; charset=no-such",
        f"{CSV_ROW}; charset=zip",
        f"{CSV_ROW}; escape=x",
        f'{CSV_ROW}; quote="\'"; delimiter=";"',
        f'{CSV_ROW}; delimiter="ab"',
        f'{CSV_ROW}; delimiter="a"',
        f'{CSV_ROW}; delimiter="""',
        f'{CSV_ROW}; delimiter="\'"; quote="\'"',
    ],
)
def test_a_row_of_unknown_form_is_kept_as_failed(content_type: str) -> None:
    processed = transform(event(b"a,b\n1,2", content_type=content_type), NO_PIPELINES)

    assert processed.status is RecordStatus.FAILED
    assert "content type" in processed.errors[0].detail


def test_a_row_that_takes_too_much_memory_to_be_cut_is_kept_as_failed() -> None:
    processed = transform(event(b"a\n" + b"x" * (4 * 1024 * 1024), content_type=CSV_ROW), NO_PIPELINES)

    assert processed.errors == (Problem("", "is larger than a row of 4 MiB"),)


def test_a_row_that_is_not_in_its_charset_is_kept_as_failed() -> None:
    processed = transform(event(b"a\n\x81", content_type=f"{CSV_ROW}; charset=windows-1252"), NO_PIPELINES)

    assert processed.errors == (Problem("", "must be WINDOWS-1252"),)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a":1,"b":2}', b'{ "b" : 2, "a" : 1 }'),
        (b'{"a":1.10}', b'{"a":1.1}'),
        (b'{"a":1}', b'{"a":1.0}'),
        (b'{"a":100}', b'{"a":1e2}'),
        (b'{"a":-0.0}', b'{"a":0}'),
        (b'{"a":9007199254740993}', b'{"a":9007199254740993.0}'),
        (b'{"a":"x"}', b'{"a":"\\u0078"}'),
        (b'{"a":[{"b":null}]}', b'{"a":[ {"b":null} ]}'),
        (b'{"a:":":\\"","b":{":":1}}', b'{"b": {":": 1}, "a:": ":\\u0022"}'),
        (b'{"a":1}', b'{"a":1' + b" " * 60_000 + b"}"),
        (b'{"a":[' + b"1," * 90_000 + b"1]}", b'{"a": [' + b"1," * 90_000 + b"1]}"),
        (b"not JSON", b"not JSON"),
    ],
)
def test_equal_values_in_other_bytes_are_the_same_content(one: bytes, other: bytes) -> None:
    assert same_payload(event(one), JSON, other)
    assert same_payload(event(other), JSON, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a":0.1}', b'{"a":0.1000000000000000055511151231257827}'),
        (b'{"a":9007199254740993}', b'{"a":9007199254740992}'),
        (b'{"a":9007199254740993.0}', b'{"a":9007199254740992.0}'),
        (b'{"a":18446744073709551617}', b'{"a":18446744073709551616}'),
        (b'{"a":1}', b'{"a":true}'),
        (b'{"a":0}', b'{"a":false}'),
        (b'{"a":[0.0]}', b'{"a":[false]}'),
        (b'{"a":1}', b'{"a":"1"}'),
        (b'{"a":null}', b"{}"),
        (b'{"a":[1,2]}', b'{"a":[2,1]}'),
        (b'{"a":[1]}', b'{"a":[1,1]}'),
        ('{"a":"\u00e9"}'.encode(), '{"a":"e\u0301"}'.encode()),
        (b"not JSON", b"not JSON "),
        (b'{"a":1e99999999999999999999}', b'{"a" :1e99999999999999999999}'),
        (b'{"amount":"999.00","amount":"1.00"}', b'{"amount":"1.00"}'),
        (b'{"amount":"1.00","amount":"1.00"}', b'{"amount":"1.00"}'),
        (b'{"a":[{"b":1,"\\u0062":1}]}', b'{"a":[{"b":1}]}'),
        (b'{"a":1,"a":1}', b'{"a":1, "a":1}'),
        (b'{"a":1}', b'{"a":1' + b" " * 70_000 + b"}"),
        (b'{"a":[' + b"1," * 100_000 + b"1]}", b'{"a": [' + b"1," * 100_000 + b"1]}"),
        (b'{"a":"' + b"x" * 5_000_000 + b'"}', b'{"a": "' + b"x" * 5_000_000 + b'"}'),
    ],
)
def test_other_values_are_other_content(one: bytes, other: bytes) -> None:
    assert not same_payload(event(one), JSON, other)
    assert not same_payload(event(other), JSON, one)


def test_content_is_compared_however_deep_it_is_nested() -> None:
    """A comparison that recursed would end the batch of everybody else."""
    nested = b'{"a":' + b"[" * 900 + b"1" + b"]" * 900 + b"}"

    assert same_payload(event(nested), JSON, nested.replace(b":", b": "))
    assert not same_payload(event(nested), JSON, nested.replace(b"1", b"2"))


def test_a_row_and_an_object_of_the_same_strings_are_the_same_content() -> None:
    assert same_payload(event(b'{"id":"1"}'), CSV_ROW, b"id\n1")
    assert not same_payload(event(b'{"id":1}'), CSV_ROW, b"id\n1")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(payload=st.dictionaries(st.text(max_size=3), VALUES, max_size=4))
def test_writing_a_payload_differently_does_not_change_what_it_is(payload: dict[str, Any]) -> None:
    compact = msgspec.json.encode(payload)
    spaced = msgspec.json.format(msgspec.json.encode(dict(reversed(payload.items()))), indent=3)

    assert same_payload(event(compact), JSON, spaced)


@given(one=st.decimals(allow_nan=False, allow_infinity=False), other=st.decimals(allow_nan=False, allow_infinity=False))
def test_amounts_are_the_same_exactly_when_their_decimals_are(one: decimal.Decimal, other: decimal.Decimal) -> None:
    bodies = [b'{"amount":%s}' % str(amount).encode() for amount in (one, other)]

    assert same_payload(event(bodies[0]), JSON, bodies[1]) == (one == other)
