"""Code for columns of money: minor units or decimal numbers, kept at the scale of their currency. Pure."""

from collections.abc import Mapping
from typing import TypeAlias

from shared.pipelines.codegen import runtime
from shared.pipelines.codegen.cells import Cell
from shared.pipelines.codegen.options import apply_sign, exact_bound, map_values
from shared.pipelines.codegen.spots import CompileError
from shared.pipelines.model import MoneyRules
from shared.pipelines.values.money import DIGITS_MAX, WHOLE_LIMIT, ExponentsError, conversions, scales, whole_of_text

AmountTables: TypeAlias = dict[tuple[object, ...], dict[str, object]]
"""How amounts of each currency are stored, by units, profile and digits; shared by the tables of a pipeline."""


class Amounts:
    """The code of the columns of money of one table. Columns of one currency column and one profile share a look-up."""

    def __init__(self, rules: MoneyRules, files: Mapping[str, bytes], found: AmountTables) -> None:
        self._rules = rules
        self._files = files
        self._tables = found
        self._looked_up: dict[tuple[object, ...], str] = {}

    def look_up(self, cell: Cell, currency: Cell) -> None:
        """Add code that finds how amounts of a row's currency are stored. It stands before the columns of money."""
        key = (currency.whole, *self._profile(cell))
        if key in self._looked_up:
            return
        name = self._looked_up[key] = cell.writer.local("m")
        cell.writer.line(f"{name} = {cell.writer.constant(self._table(cell))}.get({currency.whole})")

    def convert(self, cell: Cell, currency: Cell) -> None:
        """Add the conditions of an amount that has a raw value, and set its value where none holds."""
        if isinstance(cell.column.values, dict):
            map_values(cell)
        found = self._looked_up[currency.whole, *self._profile(cell)]
        read = _minor if self._profile(cell)[0] == "minor" else _major
        scale = read(cell, currency, found)
        whole = cell.whole
        cell.fail(f"not {1 - WHOLE_LIMIT} <= {whole} <= {WHOLE_LIMIT - 1}", "max")
        apply_sign(cell, whole)
        _check_bounds(cell, scale)
        cell.let(f"{cell.value} = ({whole}, {scale})")

    def _profile(self, cell: Cell) -> tuple[str, str | None, int | None]:
        units = cell.column.units or self._rules.units
        profile = cell.column.exponents or self._rules.exponents
        return (units, profile if units == "minor" else None, cell.column.digits)

    def _table(self, cell: Cell) -> dict[str, object]:
        units, profile, digits = key = self._profile(cell)
        if digits is not None and not 0 <= digits <= DIGITS_MAX:
            raise CompileError(f"{cell.plan.name}: digits must be 0 to {DIGITS_MAX}")
        if key not in self._tables:
            try:
                found = conversions(profile or "", self._files, digits) if units == "minor" else scales(digits)
            except ExponentsError as error:
                raise CompileError(f"{cell.plan.name}: exponents {error}") from error
            self._tables[key] = dict(found)
        return self._tables[key]


def _unknown_currency(cell: Cell, currency: Cell, condition: str) -> None:
    """Add the conditions of an amount whose currency is bad, or is not there: the latter is told of the currency."""
    cell.fail(f"{condition} and {currency.raw} is not None", "currency")
    with cell.when(condition):
        cell.writer.line("pass")


def _minor(cell: Cell, currency: Cell, found: str) -> str:
    raw, whole = cell.raw, cell.whole
    if cell.is_text:
        if cell.is_checked:
            cell.fail(f"type({raw}) is not str", "type")
        cell.let(f"{raw} = {cell.call(runtime.integer_of_text, raw)}")
        cell.fail(f"{raw} is None", "type")
    else:
        cell.fail(f"type({raw}) is not int", "type")
    _unknown_currency(cell, currency, f"{found} is None")
    factor, divisor, scale = (cell.writer.local(letter) for letter in "fds")
    cell.let(f"{factor}, {divisor}, {scale} = {found}")
    division = cell.call(runtime.divided, raw, divisor)
    cell.let(f"{whole} = {raw} * {factor} if {divisor} == 1 else {division}")
    cell.fail(f"{whole} is None", "precision")
    return scale


def _major(cell: Cell, currency: Cell, found: str) -> str:
    raw, whole = cell.raw, cell.whole
    if cell.is_checked:
        cell.fail(f"type({raw}) is not str", "type")
    if cell.is_text and cell.form.decimal_comma and cell.plan.fixed is None:
        cell.let(f"{raw} = {cell.call(runtime.with_point, raw)}")
    function = whole_of_text if cell.is_text else runtime.whole_of_json
    cell.let(f"{whole} = {cell.call(function, raw, f'{DIGITS_MAX} if {found} is None else {found}')}")
    cell.fail(f'{whole} == "type"', "type")
    _unknown_currency(cell, currency, f"{found} is None")
    cell.fail_by_code(whole, ("precision", "max"))
    return found


def _check_bounds(cell: Cell, scale: str) -> None:
    for bound, operator, code in ((cell.column.min, "<", "min"), (cell.column.max, ">", "max")):
        if bound is None:
            continue
        whole, decimals = exact_bound(bound)
        if whole == 0:
            cell.fail(f"{cell.whole} {operator} 0", code)
        else:
            left = f"{cell.whole} * {10**decimals}" if decimals else cell.whole
            cell.fail(f"{left} {operator} {cell.writer.constant(whole)} * 10 ** {scale}", code)
