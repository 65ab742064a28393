"""One row of an event, column by column: slow, plain, without generated code."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal

from shared.pipelines.arithmetic import read_comparison
from shared.pipelines.model import Alternative, Check, Column, Join, Otherwise, Table, ZoneNames
from shared.pipelines.places import pointer_of
from support.interpreted_places import Element, EventReader, Told, as_decimal
from support.interpreted_values import PLAIN, ProblemFoundError, Raw, listed, read_amount, read_value


class RowSkippedError(Exception):
    """A column that is marked `skip` has no value."""


class RowReader:
    """Reads the columns of one row."""

    def __init__(self, of: EventReader, table: Table, element: Element) -> None:
        self.of, self.table, self.element = of, table, element
        self.values: dict[str, object] = {}
        self.problems: list[tuple[int, Told]] = []
        self.notes: list[tuple[int, Told]] = []
        self.bad_columns: set[str] = set()

    def read(self, wanted: set[str | None], lenient: set[str | None]) -> None:
        """Read the wanted columns; what is wrong with the lenient ones does not matter. Raises RowSkippedError."""
        columns = {name: column for name, column in self.table.columns.items() if name in wanted}
        for name, column in columns.items():
            if column.skip and self._absent(name, column) is None and self._raw(name, column)[0] is None:
                raise RowSkippedError
        for name, column in columns.items():
            position = list(self.table.columns).index(name)
            notes: list[Told] = []
            try:
                self.values[name] = self._value(name, column, notes)
            except ProblemFoundError as problem:
                told = self.of.tell(self.table, name, problem.code, self._place_of(name, column, problem.code))
                is_noted = column.on_error == "null" and problem.code not in {"missing", "absent"}
                if name not in lenient:
                    (notes if is_noted else self.problems).append(told if is_noted else (position, told))  # type: ignore[arg-type] # two lists
                if name not in lenient and not is_noted:
                    self.bad_columns.add(name)
            self.notes += [(position, told) for told in notes]

    def _place_of(self, name: str, column: Column, code: str) -> str:
        if code == "absent":
            return self.of.pointer(self._absent(name, column), self.element)
        if getattr(self, "sign_problem", None) == name:
            return self.of.pointer(column.sign.from_ if column.sign else "", self.element)
        places = self._places(name, column)
        if not places:
            return ""
        place = places[0] if code == "missing" else self._raw(name, column)[1]
        return self.of.pointer(place, self.element)

    def _places(self, name: str, column: Column) -> list[str]:
        if column.value is not None and column.from_ is None:
            return []
        if isinstance(column.from_, Join):
            return list(column.from_.join)
        places = column.from_ if isinstance(column.from_, tuple) else (column.from_ or name,)
        return [place.from_ if isinstance(place, Alternative) else place for place in places]

    def _absent(self, name: str, column: Column) -> str | None:
        absent = [place for place in self._places(name, column) if self.of.is_absent(place, self.table)]
        if absent and (isinstance(column.from_, Join) or len(absent) == len(self._places(name, column))):
            return None if column.optional else absent[0]
        return self._absent_beside(column)

    def _absent_beside(self, column: Column) -> str | None:
        beside = [column.sign.from_] if column.sign else []
        beside += [column.zone.from_] if isinstance(column.zone, ZoneNames) else []
        return next((place for place in beside if self.of.is_absent(place, self.table)), None)

    def _as_text(self, column: Column) -> bool:
        places = self._places("", column)
        is_joined = isinstance(column.from_, Join)
        is_counted = bool(places) and all(place in {"@row", "@index"} for place in places)
        if column.type in {"integer", "decimal"} and is_counted and not is_joined:
            return False
        is_fixed = not places or is_joined
        return self.of.is_csv or column.as_ == "text" or is_fixed or isinstance(column.values, dict)

    def _raw(self, name: str, column: Column) -> tuple[Raw, str | None, bool]:
        """Return the raw value, the place that it is of, and whether it counts negatively."""
        if column.value is not None and column.from_ is None:
            return str(column.value).lower() if isinstance(column.value, bool) else str(column.value), None, False
        if isinstance(column.from_, Join):
            parts = [self._text_of(self.of.read(place, self.element), place) for place in column.from_.join]
            if any(part is None for part in parts):
                return None, column.from_.join[0], False
            is_text = all(isinstance(part, str) for part in parts)
            return self._dressed(column, column.from_.with_.join(parts) if is_text else []), column.from_.join[0], False
        places = column.from_ if isinstance(column.from_, tuple) else (column.from_ or name,)
        for number, each in enumerate(places):
            place, negate = (each.from_, each.negate) if isinstance(each, Alternative) else (each, False)
            value = self.of.read(place, self.element)
            if place.startswith("@") and (column.type not in {"integer", "decimal"} or self._as_text(column)):
                value = (
                    value
                    if column.type in {"timestamp", "date"} and isinstance(value, datetime)
                    else self._text_of(value, place)
                )
            is_last = number == len(places) - 1
            is_nothing = value is None or (isinstance(value, dict) and column.type != "json")
            is_nothing |= column.as_ == "text" and isinstance(value, str) and value in self.of.pipeline.csv.missing
            if is_last or not is_nothing:
                return self._dressed(column, value), place, negate
        raise AssertionError

    def _text_of(self, value: Raw, place: str = "@") -> Raw:
        if isinstance(value, datetime):
            return value.isoformat().replace("+00:00", "Z")
        return (
            str(value)
            if isinstance(value, int)
            and not isinstance(value, bool)
            and place in {"@row", "@index", "@"}
            and place != "@"
            else value
        )

    def _dressed(self, column: Column, value: Raw) -> Raw:
        if not isinstance(value, str):
            return value
        value = value.strip() if column.trim else value
        value = {"upper": value.upper(), "lower": value.lower(), None: value}[column.case]
        is_cell = (self.of.is_csv and column.trim) or column.as_ == "text"
        return None if is_cell and value in self.of.pipeline.csv.missing else value

    def _value(self, name: str, column: Column, notes: list[Told]) -> object:
        if self._absent(name, column) is not None:
            raise ProblemFoundError("absent")
        raw, place, negate = self._raw(name, column)
        if raw is None:
            if self._is_required(name, column):
                raise ProblemFoundError("missing")
            return None

        def note() -> None:
            pointer = self.of.pointer(place, self.element) if place else ""
            notes.append(self.of.tell(self.table, name, "value", pointer))

        if isinstance(column.values, dict):
            raw = self._mapped(column, raw, note)
        if column.type == "money":
            return self._amount(name, column, raw, negate=negate)
        offset = self._offset(column) if isinstance(raw, str) else None
        comma = self.of.pipeline.csv.decimal == "," and bool(self._places(name, column)) and column.type == "decimal"
        value: Raw = read_value(column, raw, as_text=self._as_text(column), comma=comma, offset=offset)
        if column.type in {"integer", "decimal"}:
            value = self._signed(name, column, value, negate=negate)
        value, is_noted = listed(column, value)
        if is_noted:
            note()
        return self._bounded(column, value)

    def _mapped(self, column: Column, raw: object, note: Callable[[], None]) -> object:
        if not isinstance(raw, str):
            raise ProblemFoundError("type")
        mapping = column.values if isinstance(column.values, dict) else {}
        if raw in mapping:
            return mapping[raw]
        if isinstance(column.otherwise, Otherwise):
            return column.otherwise.value
        if column.otherwise != "note":
            raise ProblemFoundError("value")
        note()
        return raw

    def _offset(self, column: Column) -> str | None:
        if not isinstance(column.zone, ZoneNames) or column.as_ in {
            None,
            "text",
            "rfc3339",
            "unix",
            "unix_ms",
            "unix_us",
        }:
            return None
        name = self.of.read(column.zone.from_, self.element)
        if not isinstance(name, str) or name not in column.zone.names:
            raise ProblemFoundError("time")
        return column.zone.names[name]

    def _is_required(self, name: str, column: Column) -> bool:
        if column.required or name in self.table.key or name == self.table.newest:
            return True
        return column.type == "currency" and any(
            other.type == "money"
            and other.currency == name
            and self._absent(each, other) is None
            and self._raw(each, other)[0] is not None
            for each, other in self.table.columns.items()
        )

    def _amount(self, name: str, column: Column, raw: object, *, negate: bool) -> object:
        found = self.table.columns[column.currency or ""]
        is_absent = self._absent(column.currency or "", found) is not None
        currency_raw = None if is_absent else self._raw(column.currency or "", found)[0]
        try:
            code = None if currency_raw is None else self._code(found, currency_raw)
        except ProblemFoundError:
            code = None
        rules, comma = self.of.pipeline.money, self.of.pipeline.csv.decimal == "," and bool(self._places(name, column))
        amount = read_amount(column, rules, raw, code, as_text=self._as_text(column), comma=comma)
        if amount is None:
            if currency_raw is not None:
                raise ProblemFoundError("currency")
            return None
        whole = self._signed(name, column, amount[0], negate=negate)
        self._bounded(column, as_decimal((whole, amount[1])))
        return whole, amount[1]

    def _code(self, column: Column, raw: object) -> str:
        return str(read_value(column, raw, as_text=self._as_text(column), comma=False, offset=None))

    def _signed(self, name: str, column: Column, value: Raw, *, negate: bool) -> Raw:
        value = PLAIN.multiply(value, -1) if isinstance(value, Decimal) and column.negate != negate else value
        value = -value if isinstance(value, int) and column.negate != negate else value
        if column.sign is None:
            return value
        mark = self.of.read(column.sign.from_, self.element)
        mark = "" if mark is None else mark
        if not isinstance(mark, str) or mark not in {*column.sign.minus, *column.sign.plus}:
            self.sign_problem = name
            raise ProblemFoundError("missing" if mark == "" else "value")
        is_plus = mark in column.sign.plus
        return value if is_plus else PLAIN.multiply(value, -1) if isinstance(value, Decimal) else -value

    def _bounded(self, column: Column, value: Raw) -> Raw:
        if column.type not in {"integer", "decimal", "money"}:
            return value
        limits = (-(2**63), 2**63 - 1) if column.type == "integer" else (None, None)
        for bound in (limits[1], column.max):
            if bound is not None and value > bound:
                raise ProblemFoundError("max")
        for bound in (limits[0], column.min):
            if bound is not None and value < bound:
                raise ProblemFoundError("min")
        return value

    def check(self) -> None:
        """Hold the row against the checks that need no other rows."""
        for number, check in enumerate(self.table.check):
            rule = check if isinstance(check, Check) else Check(check)
            comparison = read_comparison(rule.must)
            columns = {term.column for term in comparison.terms if term.column and not term.function}
            columns |= {self.table.columns[name].currency or name for name in columns}
            if any(term.function for term in comparison.terms) or columns & self.bad_columns:
                continue
            if not self.of.holds(comparison, self.values, empty_is_zero=rule.empty == 0):
                cause = f"{self.of.pipeline.name}.{self.table.name}:check {comparison.text[:120]}"
                told = (10**6 + number, (pointer_of(*self.element.steps), "check", cause))
                (self.notes if rule.level == "note" else self.problems).append(told)
