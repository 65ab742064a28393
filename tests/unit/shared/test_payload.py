"""An edge service takes one JSON object in UTF-8, and says of anything else what it is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.payload import MORE_THAN_ONE, object_problem


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b" \t\r\n{} ",
        b'{"a":9007199254740993}',
        b'{"a":1e999}',
        b'{"a":1,"a":2}',
        '{"\u00e9":"\U0001f4b6"}'.encode(),
    ],
)
def test_an_object_is_taken_whatever_its_values(body: bytes) -> None:
    assert object_problem(body) is None


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "must be valid JSON"),
        (b"{", "must be valid JSON"),
        (b"{} {}", MORE_THAN_ONE),
        (b"{}[]", MORE_THAN_ONE),
        (b"{},{}", "must be valid JSON"),
        (b"{}x", "must be valid JSON"),
        (b'{"a":NaN}', "must be valid JSON"),
        (b'{"a":"\n"}', "must be valid JSON"),
        (b'{"a":"\\ud800"}', "must be valid JSON"),
        (b"\xef\xbb\xbf{}", "must be valid JSON"),
        ("{}".encode("utf-16"), "must be valid JSON"),
        (b'{"a":"\xff"}', "must be UTF-8"),
        (b'{"\xc0\xaf":1}', "must be UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', "must be UTF-8"),
        (b"[]", "must be a JSON object"),
        (b"[{}]", "must be a JSON object"),
        (b'"{}"', "must be a JSON object"),
        (b"1", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "is nested too deeply"),
        (b"[" * 1_000_000, "is nested too deeply"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_anything_else_is_named_for_what_it_is_not(body: bytes, problem: str) -> None:
    assert object_problem(body) == problem


@given(body=st.binary(max_size=100) | st.text(max_size=60).map(str.encode))
def test_no_bytes_at_all_make_it_raise(body: bytes) -> None:
    problem = object_problem(body)

    assert problem is None or problem.startswith(("must", "is"))


@pytest.mark.parametrize("offset", range(4))
def test_a_large_text_is_checked_across_the_parts_in_which_it_is_decoded(offset: int) -> None:
    body = b'{"a":"%b%b"}' % (b"x" * offset, "\U0001f4b6".encode() * 300_000)

    assert object_problem(body) is None
    assert object_problem(body[:-3] + body[-2:]) == "must be UTF-8"
    assert object_problem(body.replace(b'"}', b'\xf0"}')) == "must be UTF-8"
