"""The rule that no two rows of a file have the same key: with 22 bytes a row, whatever the key. Pure."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Final

from shared.pipelines.checking.rules import ColumnAt, Columns
from shared.pipelines.checking.violations import Level, Showing, Violation
from shared.pipelines.codegen.runtime import exact
from shared.pipelines.model import ColumnType
from shared.pipelines.program import Value

_DIGEST_BYTES: Final = 16
_PLACE_BYTES: Final = 6
_RECORD_BYTES: Final = _DIGEST_BYTES + _PLACE_BYTES
# By the first byte of the digest: so what is sorted at the end is a part of the rows at a time.
_PARTS: Final = 256
_OF_ONE_FORM: Final = frozenset({"text", "integer", "boolean", "timestamp", "date", "uuid", "currency", "country"})


class Unique:
    """Finds rows that repeat a key. As in SQL, a row without a value in a column of the key equals no other."""

    def __init__(
        self, columns: Sequence[ColumnAt], types: Sequence[ColumnType], level: Level, showing: Showing
    ) -> None:
        """`types` are those of the columns."""
        self._name = ", ".join(column.name for column in columns)
        self._positions = [column.position for column in columns]
        self._reduce = [None if kind in _OF_ONE_FORM else _reduced for kind in types]
        self._level = level
        self._places_max = showing.places_max
        self._parts = [bytearray() for _ in range(_PARTS)]

    def add(self, places: Sequence[int], columns: Columns) -> None:
        """Keep a digest and the number of each row."""
        parts, blake2b = self._parts, hashlib.blake2b
        for place, key in zip(places, zip(*self._keys(columns), strict=True), strict=True):
            if None not in key:
                digest = blake2b(repr(key).encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
                parts[digest[0]] += digest + place.to_bytes(_PLACE_BYTES, "big")

    def violations(self) -> Iterator[Violation]:
        """Yield the rows whose key stood before, each with the first row that had it."""
        count = 0
        kept: list[tuple[int, int]] = []
        for part in self._parts:
            found = list(_repeated(part))
            count += len(found)
            kept = sorted(kept + found)[: self._places_max]
        if count:
            yield Violation(
                "unique",
                self._name,
                self._level,
                count,
                places=tuple(place for place, _ in kept),
                first=tuple(first for _, first in kept),
            )

    def _keys(self, columns: Columns) -> Iterator[Sequence[Value]]:
        """Yield the columns of the key, with one form for equal values."""
        for position, reduce in zip(self._positions, self._reduce, strict=True):
            values = columns[position]
            yield values if reduce is None else [None if value is None else reduce(value) for value in values]


def _repeated(part: bytearray) -> Iterator[tuple[int, int]]:
    """Yield the number of each row whose digest stood before, and that of the first row with it."""
    records = sorted(bytes(part[start : start + _RECORD_BYTES]) for start in range(0, len(part), _RECORD_BYTES))
    digest_of: Callable[[bytes], bytes] = itemgetter(slice(_DIGEST_BYTES))
    before, first = b"", 0
    for record in records:
        digest, place = digest_of(record), int.from_bytes(record[_DIGEST_BYTES:], "big")
        if digest == before:
            yield place, first
        else:
            before, first = digest, place


def _reduced(value: Value) -> Value:
    """Return a number without the zeros at its end: 1.10 and 1.1 are one key. What is no number stays."""
    amount = exact(value)
    if amount is None:
        return value
    whole, scale = amount
    while scale and not whole % 10:
        whole, scale = whole // 10, scale - 1
    return whole, scale
