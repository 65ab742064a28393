"""Framing: the same items however the bytes are cut, and each item's own bytes."""

from collections.abc import Iterator
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.framing import ArrayFramer, Framer, FramingError, ItemTooLargeError, LineFramer

MIB = 1024 * 1024

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.text(alphabet='"\\[]{},: \u2028'),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(), values, max_size=4),
    max_leaves=10,
)
blanks = st.text(alphabet=" \t\r\n", max_size=3).map(str.encode)


@st.composite
def documents(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """Return a JSON array, with blanks anywhere between its elements, and the elements."""
    items = draw(st.lists(json_values.map(msgspec.json.encode), max_size=6))
    around = [draw(blanks) + item + draw(blanks) for item in items]
    return draw(blanks) + b"[" + draw(blanks) + b",".join(around) + b"]" + draw(blanks), items


def cuts(document: bytes, places: list[int]) -> Iterator[bytes]:
    """Yield the document in chunks that end at `places`."""
    edges = [0, *sorted(place % (len(document) + 1) for place in places), len(document)]
    for start, end in pairwise(edges):
        yield document[start:end]


def items_of(framer: Framer, chunks: Iterator[bytes] | list[bytes]) -> list[bytes]:
    return [*(item for chunk in chunks for item in framer.feed(chunk)), *framer.finish()]


@given(documents(), st.lists(st.integers(0, 10_000), max_size=12))
def test_an_array_has_its_elements_however_it_is_cut(document: tuple[bytes, list[bytes]], places: list[int]) -> None:
    whole, items = document

    assert items_of(ArrayFramer(MIB), cuts(whole, places)) == items


@given(documents())
def test_an_array_byte_by_byte_has_its_elements(document: tuple[bytes, list[bytes]]) -> None:
    whole, items = document

    assert items_of(ArrayFramer(MIB), [bytes([byte]) for byte in whole]) == items


@given(documents())
def test_an_array_is_cut_as_a_parser_cuts_it(document: tuple[bytes, list[bytes]]) -> None:
    whole, _ = document

    expected = [bytes(item) for item in msgspec.json.decode(whole, type=list[msgspec.Raw])]

    assert items_of(ArrayFramer(MIB), [whole]) == expected


@given(st.text(alphabet='[]{}",:\\ \n0a', max_size=40).map(str.encode), st.lists(st.integers(0, 100), max_size=8))
def test_any_bytes_give_the_same_end_however_they_are_cut(document: bytes, places: list[int]) -> None:
    """Items and error alike depend on the bytes alone; and what a parser takes is taken."""

    def outcome(chunks: Iterator[bytes] | list[bytes]) -> tuple[list[bytes], str | None]:
        framer, found = ArrayFramer(MIB), []
        try:
            for chunk in chunks:
                for item in framer.feed(chunk):
                    found.append(item)  # noqa: PERF402 - what came before an error counts too
            for item in framer.finish():
                found.append(item)  # noqa: PERF402 - what came before an error counts
        except FramingError as error:
            return found, error.detail
        return found, None

    items, error = outcome([bytes([byte]) for byte in document])

    cut_items, cut_error = outcome(cuts(document, places))
    assert (cut_items, cut_error) == (items, error)
    try:
        expected = [bytes(item) for item in msgspec.json.decode(document, type=list[msgspec.Raw])]
    except msgspec.DecodeError:
        return
    assert (items, error) == (expected, None)


@pytest.mark.parametrize(
    ("document", "position"),
    [
        (b"", 0),
        (b"  ", 0),
        (b"{}", 0),
        (b"[", 0),
        (b"[1", 0),
        (b"[1,", 1),
        (b"[1,]", 1),
        (b"[,1]", 0),
        (b"[1 2]", 1),
        (b"[1]]", 1),
        (b"[1] [2]", 1),
        (b'["a', 0),
        (b'[{"a":1}', 1),
        (b'[{"a":"}"', 0),
    ],
)
def test_where_an_array_breaks_is_told_by_position(document: bytes, position: int) -> None:
    with pytest.raises(FramingError) as broken:
        items_of(ArrayFramer(MIB), [document])

    assert broken.value.position == position


@given(
    st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line), max_size=8),
    st.booleans(),
    st.lists(st.integers(0, 500), max_size=8),
)
def test_lines_are_the_same_however_they_are_cut(lines: list[bytes], last: bool, places: list[int]) -> None:  # noqa: FBT001 - hypothesis hands it over by name
    document = b"\n".join(lines) + (b"\n" if last else b"")
    expected = [line.removesuffix(b"\r") for line in lines if line.strip(b" \t\r\n")]

    assert items_of(LineFramer(MIB), cuts(document, places)) == expected


def test_only_a_line_feed_ends_a_line() -> None:
    document = "a\u2028b\x0bc\x0cd\x85e\rf\r\ng".encode()

    assert items_of(LineFramer(MIB), [document]) == ["a\u2028b\x0bc\x0cd\x85e\rf".encode(), b"g"]


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1_000])
@pytest.mark.parametrize(
    ("framer", "document"),
    [
        (LineFramer(10), b"12345678901"),
        (LineFramer(10), b"1\n12345678901\n"),
        (ArrayFramer(10), b'[1,"1234567890123"]'),
        (ArrayFramer(10), b"[" + b"[" * 50),
        (ArrayFramer(10), b'["' + b"x" * 50),
    ],
)
def test_an_item_over_the_limit_is_refused_before_its_end(framer: Framer, document: bytes, chunk_bytes: int) -> None:
    chunks = [document[start : start + chunk_bytes] for start in range(0, len(document), chunk_bytes)]

    with pytest.raises(ItemTooLargeError):
        items_of(type(framer)(10), chunks)  # type: ignore[call-arg]  # both framers take it


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "element", [b'"' + b"x" * MIB + b'"', b"[" * 500_000 + b"]" * 500_000, b'{"a":"' + b"\\\\" * 500_000 + b'"}']
)
def test_large_elements_in_small_chunks_take_time_in_proportion(element: bytes) -> None:
    """A scan that began anew with every chunk would take minutes."""
    document = b"[" + element + b"]"

    items = items_of(
        ArrayFramer(2 * MIB), [document[start : start + 65_536] for start in range(0, len(document), 65_536)]
    )

    assert items == [element]
