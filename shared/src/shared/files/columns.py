"""The columns of a CSV file: their names, the one that holds ids, and rows that are no data. Pure."""

import enum
import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from shared.contracts.csv_row import Dialect
from shared.files.file_format import SETTING
from shared.files.rows import UnreadableError

_MARK: Final = "\ufeff"
_MONEY: Final = (
    r"[+\-(]?\s?[$€£¥]?\s?(?:\d[\d.,'\u2019\s]*|[.,]\d+)(?:[eE][+\-]?\d+)?\)?\s?(?:%|[$€£¥]|(?<=[.,]\d\d)\s?[A-Z]{3})?"
)
_NUMBER: Final = re.compile(_MONEY)
_DATE: Final = re.compile(
    r"(?:\d{4}-\d\d?-\d\d?|\d{4}/\d\d?/\d\d?|\d\d?[./-]\d\d?[./-](?:\d{4}|\d\d))(?:[T ].*)?|\d\d?:\d\d(?::\d\d.*)?"
)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")

_TOTALS: Final = frozenset(
    [
        "total",
        "totals",
        "grand total",
        "sub total",
        "subtotal",
        "sub-total",
        "sum",
        "summe",
        "gesamt",
        "gesamtsumme",
        "gesamtbetrag",
        "zwischensumme",
        "total general",
        "totale",
        "totaal",
        "somme",
        "suma",
        "soma",
        "summa",
        "razem",
        "итого",
        "合计",
    ]
)
_AROUND_TOTALS: Final = " \t:=."


class Columns(NamedTuple):
    """The header of a CSV file: its bytes, its names without blanks around them, and the index of the id.

    `number` is the header's line; 0 where the names come from the settings.
    """

    header: bytes
    names: list[str]
    dialect: Dialect
    id_index: int | None
    number: int


class NoData(enum.Enum):
    """Why a row is no data."""

    HEADER_AGAIN = enum.auto()
    OTHER_HEADER = enum.auto()
    TOTAL = enum.auto()


class RowScreen:
    """Finds rows that are no data: the header once more, another header, a total.

    The first field of such a row is one of `firsts`. So other rows need only a check of their first field.
    """

    def __init__(self, names: Sequence[str], id_index: int | None, *, totals: bool) -> None:
        """`totals=False`: a row that looks like a total is data."""
        self._names = [normal(name) for name in names]
        self._known = frozenset(self._names)
        self._id_index = id_index
        self._totals = _TOTALS if totals else frozenset()
        spelled = {form for name in names for form in _spellings(name)}
        self.firsts: frozenset[str] = frozenset(
            spelled | {_MARK + name for name in spelled} | (_TOTAL_SPELLINGS if totals else frozenset())
        )

    def find(self, fields: Sequence[str]) -> NoData | None:
        """Return why a row is no data, or None where it is data. It has a field for each column."""
        cells = [normal(field) for field in fields]
        if cells == self._names:
            return NoData.HEADER_AGAIN
        if self._names_columns(cells):
            return NoData.OTHER_HEADER
        return NoData.TOTAL if self._is_total(cells) else None

    def _names_columns(self, cells: Sequence[str]) -> bool:
        if self._id_index is not None and cells[self._id_index] == self._names[self._id_index]:
            return True
        count = len(self._known.intersection(cells))
        return count > 1 and 2 * count >= len(cells)

    def _is_total(self, cells: Sequence[str]) -> bool:
        words = [cell.strip(_AROUND_TOTALS) for cell in cells]
        if self._id_index is not None and cells[self._id_index] and words[self._id_index] not in self._totals:
            return False
        return next(filter(None, words), "") in self._totals


def normal(name: str) -> str:
    """Return a name as names are compared: without a byte order mark, blanks around it, and case."""
    return name.strip().strip(_MARK).strip().casefold()


def find_id(names: Sequence[str], id_field: str) -> int | None:
    """Return the index of the column that holds a row's own id. Raises UnreadableError where it may be two."""
    if id_field in names:
        return names.index(id_field)
    found = [index for index, name in enumerate(names) if normal(name) == normal(id_field)]
    if len(found) > 1:
        raise UnreadableError("the header has two columns that may hold the id")
    return found[0] if found else None


def check_names(names: Sequence[str], number: int) -> None:
    """Raise UnreadableError where the fields of the header, in line `number`, cannot be names of columns."""
    positions: dict[str, int] = {}
    if any(_CONTROL.search(name) for name in names):
        raise UnreadableError(f"the header (line {number}) holds control characters: is this text in UTF-8?")
    for index, name in enumerate(map(str.strip, names), start=1):
        first = positions.setdefault(name, index)
        if not name:
            raise UnreadableError(f"the header has a column without a name (column {index}){_no_header(number)}")
        if first < index:
            raise UnreadableError(f"the header names a column twice (columns {first}, {index}){_no_header(number)}")
        if kind := value_kind(name):
            raise UnreadableError(f"the header looks like data: column {index} is {kind}{_no_header(number)}")


def refuse_data(number: int, index: int) -> UnreadableError:
    """Return the error for a header that looks like the rows below it in one column, counted from 0."""
    return UnreadableError(f"the header looks like data: column {index + 1} is as in the rows{_no_header(number)}")


def value_kind(cell: str) -> str | None:
    """Return what kind of value a text looks like, or None."""
    cell = cell.strip()
    if _DATE.fullmatch(cell):
        return "a date or time"
    if _NUMBER.fullmatch(cell):
        return "a number"
    return "a UUID" if _UUID.fullmatch(cell) else None


def _no_header(number: int) -> str:
    return (
        f"; if line {number} is no header, give the names of the columns in `header`, or the number of lines above the "
        f"header in `skip_lines`, for this source in {SETTING}"
    )


def _spellings(text: str) -> Iterable[str]:
    """Return the spellings of a text that programs use."""
    plain = text.strip()
    return {text, plain, plain.lower(), plain.upper(), plain.capitalize(), plain.title()}


_TOTAL_SPELLINGS: Final = frozenset(
    f"{before}{spelled}{after}"
    for total in _TOTALS
    for spelled in _spellings(total)
    for before in ("", " ")
    for after in ("", ":", " ", " :")
) | {"", " "}
