"""The request headers: what counts, what is ignored, what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_gateway.http.headers import (
    Preferences,
    body_format,
    content_length,
    idempotency_key,
    preferences,
    read_headers,
)
from api_gateway.http.problems import HttpProblem


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'"abc"', "abc"),
        (b'"a b"', "a b"),
        (rb'"a\"b\\c"', r'a"b\c'),
        (b"abc", "abc"),
        (b"8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (b"  abc ", "abc"),
    ],
)
def test_an_idempotency_key_may_be_quoted_or_bare(value: bytes, expected: str) -> None:
    assert idempotency_key(read_headers([(b"idempotency-key", value)])) == expected


@pytest.mark.parametrize("value", [b"", b'"abc', b'abc"', b'"a\\b"', b"a b", b"\xff", b'"a", "b"', b"a, b", b'"a\x00"'])
def test_any_other_idempotency_key_is_refused(value: bytes) -> None:
    with pytest.raises(HttpProblem) as refused:
        idempotency_key(read_headers([(b"idempotency-key", value)]))

    assert refused.value.type.status == 400


def test_two_idempotency_keys_are_refused() -> None:
    with pytest.raises(HttpProblem):
        idempotency_key(read_headers([(b"idempotency-key", b"a"), (b"idempotency-key", b"b")]))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], Preferences()),
        ([b"respond-async"], Preferences(respond_async=True)),
        ([b"Respond-Async"], Preferences(respond_async=True)),
        ([b"respond-async, wait=10"], Preferences(respond_async=True, wait_seconds=10)),
        ([b"wait=10", b"respond-async"], Preferences(respond_async=True, wait_seconds=10)),
        ([b'handling=lenient; x="a, respond-async"; y, wait = "7"'], Preferences(wait_seconds=7)),
        ([b"wait=1, wait=2"], Preferences(wait_seconds=1)),
        ([b"wait=-1"], Preferences()),
        ([b"wait=1.5"], Preferences()),
        ([b"wait"], Preferences()),
        ([b"return=minimal"], Preferences()),
        ([b'x="respond-async'], Preferences()),
        ([b",,, ,respond-async"], Preferences(respond_async=True)),
    ],
)
def test_preferences_we_know_count_and_others_are_ignored(values: list[bytes], expected: Preferences) -> None:
    assert preferences(read_headers([(b"prefer", value) for value in values])) == expected


@given(st.text(alphabet='",;= \tabw-\\x1\xff', max_size=60))
def test_no_prefer_header_is_an_error(value: str) -> None:
    preferences(read_headers([(b"prefer", value.encode("latin-1"))]))


@pytest.mark.parametrize(
    "value",
    [
        b"application/json",
        b"Application/JSON; charset=UTF-8",
        b"application/vnd.x+json",
        b'application/json;charset="utf-8"',
    ],
)
def test_json_is_taken_by_its_names(value: bytes) -> None:
    assert body_format(read_headers([(b"content-type", value)]), lines=False) == "json"


@pytest.mark.parametrize(
    "value", [b"", b"text/plain", b"application/json; charset=utf-16", b"application/x-ndjson", b"json", b"\xff"]
)
def test_what_is_not_json_is_refused(value: bytes) -> None:
    with pytest.raises(HttpProblem) as refused:
        body_format(read_headers([(b"content-type", value)]), lines=False)

    assert refused.value.type.status == 415


def test_lines_are_taken_where_they_may_come() -> None:
    assert body_format(read_headers([(b"content-type", b"application/x-ndjson; charset=utf-8")]), lines=True) == "lines"


@pytest.mark.parametrize("value", [b"gzip", b"br", b"identity, gzip"])
def test_compressed_bodies_are_refused(value: bytes) -> None:
    with pytest.raises(HttpProblem) as refused:
        body_format(read_headers([(b"content-encoding", value)]), lines=True)

    assert refused.value.type.status == 415


@pytest.mark.parametrize("value", [b"-1", b"1e3", b"9" * 5_000, "٣".encode(), b"1, 1"])
def test_a_length_that_is_none_is_refused(value: bytes) -> None:
    with pytest.raises(HttpProblem):
        content_length(read_headers([(b"content-length", value)]))
