"""Code that reads places: of JSON through shared local variables, of a CSV row by the numbers of its columns. Pure."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from shared.pipelines.codegen.spots import MOMENT_ATTRIBUTES, Spot
from shared.pipelines.codegen.writer import SourceWriter

ROOT: Final = "root"
_ATTRIBUTES: Final = {
    "@source": "about.source",
    "@id": "about.id",
    "@type": "about.type",
    "@channel": "about.channel",
    "@row": "about.row",
    "@file": "about.file",
    "@file_at": "about.file_at",
    "@occurred_at": "about.occurred_at",
    "@received_at": "about.received_at",
}
_EMPTY: Final = frozenset({""})
_Tree = dict[str, "_Tree"]


class Access(ABC):
    """How the code of one table reads places. Level 0 is the payload; the others are the elements of each `*`."""

    def __init__(self, writer: SourceWriter) -> None:
        self._writer = writer
        self._read: dict[tuple[int, tuple[str, ...]], str] = {(0, ()): ROOT}
        self._indexes: list[str] = []
        self._keys: list[str] = []

    @property
    def keys(self) -> str:
        """The expression of the index or key of the element at each level."""
        pairs = zip(self._indexes, self._keys, strict=True)
        return "(" + "".join(f"{index} if {key} is None else {key}, " for index, key in pairs) + ")"

    def start_element(self, array: Spot, excluded: frozenset[str]) -> None:
        """Begin the loop over the elements of a spot; what follows is its body, one level further in."""
        index, key, element = (self._writer.local(letter) for letter in "ike")
        self._indexes.append(index)
        self._keys.append(key)
        self._writer.line(f"for {index}, {key}, {element} in {self._elements(array)}:")
        self._writer.indent()
        if excluded:
            with self._writer.block(f"if {key} in {self._writer.constant(excluded)}"):
                self._writer.line("continue")
        self._read[array.level + 1, ()] = element
        self._normalise(element)

    def fetch(self, spots: Iterable[Spot]) -> None:
        """Add code that reads places into local variables, each once."""
        by_level: dict[int, list[tuple[str, ...]]] = {}
        for spot in spots:
            if spot.number:
                self._fetch_position(spot.number)
            elif not spot.attribute and (spot.level, spot.steps) not in self._read:
                by_level.setdefault(spot.level, []).append(spot.steps)
        for level, wanted in by_level.items():
            self._fetch(level, wanted)

    def expression(self, spot: Spot, *, as_text: bool, moments: bool) -> str:
        """Return the expression of a value that was fetched.

        `as_text`: whole numbers that are known of the event become texts. `moments`: its moments stay so.
        """
        if spot.attribute:
            return self._attribute(spot.attribute, as_text=as_text, moments=moments)
        return self._position(spot.number) if spot.number else self._read[spot.level, spot.steps]

    def column_name(self, number: int) -> str | None:  # noqa: ARG002 - only files have columns
        """Return the name of a column of a CSV file by its number, from 1."""
        return None

    @abstractmethod
    def is_absent(self, spot: Spot) -> bool:
        """Tell whether the input cannot hold the place: a column that a header lacks, or has twice."""

    def _attribute(self, name: str, *, as_text: bool, moments: bool) -> str:
        if name == "@index":
            return self._as_text(self._indexes[-1], as_text=as_text) if self._indexes else "None"
        if name == "@key":
            return self._keys[-1] if self._keys else "None"
        if name == "@row":
            return self._as_text(_ATTRIBUTES[name], as_text=as_text)
        if name in MOMENT_ATTRIBUTES:
            return _ATTRIBUTES[name] if moments else f"MOMENT_TEXT({_ATTRIBUTES[name]})"
        return f"({_ATTRIBUTES[name]} or None)"

    @staticmethod
    def _as_text(expression: str, *, as_text: bool) -> str:
        return f"(None if {expression} is None else str({expression}))" if as_text else expression

    @abstractmethod
    def _normalise(self, element: str) -> None: ...

    @abstractmethod
    def _fetch_position(self, number: int) -> None: ...

    @abstractmethod
    def _elements(self, array: Spot) -> str: ...

    @abstractmethod
    def _position(self, number: int) -> str: ...

    @abstractmethod
    def _fetch(self, level: int, wanted: Sequence[tuple[str, ...]]) -> None: ...


class JsonAccess(Access):
    """Reads places of a decoded JSON payload."""

    def is_absent(self, spot: Spot) -> bool:  # noqa: ARG002 - a JSON member that is absent has no value
        """Return False: an absent member is no value."""
        return False

    def _elements(self, array: Spot) -> str:
        return f"ELEMENTS({self._read[array.level, array.steps]})"

    def _position(self, number: int) -> str:  # noqa: ARG002 - only files have positions
        return "None"

    def _normalise(self, element: str) -> None:
        """Add nothing: JSON null is None."""

    def _fetch_position(self, number: int) -> None:
        """Add nothing: only files have positions."""

    def _fetch(self, level: int, wanted: Sequence[tuple[str, ...]]) -> None:
        tree: _Tree = {}
        for steps in wanted:
            node = tree
            for step in steps:
                node = node.setdefault(step, {})
        self._fetch_members(level, (), tree)

    def _fetch_members(self, level: int, prefix: tuple[str, ...], tree: _Tree) -> None:
        new = [step for step in tree if (level, (*prefix, step)) not in self._read]
        if new:
            self._read_members(
                self._read[level, prefix], {step: self._writer.local("a") for step in new}, level, prefix
            )
        for step, members in tree.items():
            if members:
                self._fetch_members(level, (*prefix, step), members)

    def _read_members(self, node: str, names: Mapping[str, str], level: int, prefix: tuple[str, ...]) -> None:
        self._read.update({(level, (*prefix, step)): name for step, name in names.items()})
        indexed = any(step.isascii() and step.isdigit() for step in names)
        with self._writer.block(f"if type({node}) is dict"):
            if len(names) > 1:
                self._writer.line(f"get = {node}.get")
            for step, name in names.items():
                self._writer.line(
                    f"{name} = {'get' if len(names) > 1 else f'{node}.get'}({self._writer.constant(step)})"
                )
        if indexed:
            with self._writer.block(f"elif type({node}) is list"):
                for step, name in names.items():
                    self._writer.line(f"{name} = MEMBER({node}, {self._writer.constant(step)})")
        with self._writer.block("else"):
            self._writer.line(" = ".join((*names.values(), "None")))


class CsvAccess(Access):
    """Reads places of a CSV row whose header is known."""

    def __init__(self, writer: SourceWriter, header: Sequence[str], missing: frozenset[str]) -> None:
        super().__init__(writer)
        self._header = tuple(header)
        self._missing = missing
        self._cells: dict[int, str] = {}
        # A row as a whole is no value.
        self._read[0, ()] = "None"

    def column_name(self, number: int) -> str | None:
        """Return the name of a column by its number, from 1, or None where the header has no such column."""
        return self._header[number - 1] if number <= len(self._header) else None

    def is_absent(self, spot: Spot) -> bool:
        """Tell whether the header lacks a column, or has its name twice."""
        if spot.number:
            return spot.number > len(self._header)
        return not spot.attribute and spot.level == 0 and len(spot.steps) == 1 and self._index(spot.steps[0]) is None

    def _index(self, name: str) -> int | None:
        return self._header.index(name) if self._header.count(name) == 1 else None

    def _elements(self, array: Spot) -> str:
        return f"COLUMNS({self._writer.constant(self._header)}, {ROOT})" if array == Spot() else "()"

    def _position(self, number: int) -> str:
        return self._cells.get(number - 1, "None")

    def _fetch_position(self, number: int) -> None:
        if number <= len(self._header):
            self._cell(number - 1)

    def _fetch(self, level: int, wanted: Sequence[tuple[str, ...]]) -> None:
        for steps in wanted:
            index = self._index(steps[0]) if level == 0 and len(steps) == 1 else None
            self._read[level, steps] = "None" if index is None else self._cell(index)

    def _cell(self, index: int) -> str:
        if index not in self._cells:
            name = self._cells[index] = self._writer.local("a")
            is_simple = self._missing == _EMPTY
            self._writer.line(f"{name} = {ROOT}[{index}]{' or None' if is_simple else ''}")
            if not is_simple:
                self._normalise(name)
        return self._cells[index]

    def _normalise(self, element: str) -> None:
        if self._missing == _EMPTY:
            self._writer.line(f"{element} = {element} or None")
        elif self._missing:
            with self._writer.block(f"if {element} in {self._writer.constant(self._missing)}"):
                self._writer.line(f"{element} = None")
