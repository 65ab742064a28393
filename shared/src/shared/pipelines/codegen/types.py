"""Code that turns the raw value of a column into its type. Pure."""

from collections.abc import Callable
from datetime import tzinfo
from decimal import Decimal
from functools import cache
from typing import Final

from shared.pipelines.codegen import runtime
from shared.pipelines.codegen.cells import Cell
from shared.pipelines.codegen.options import apply_sign, check_bounds, check_values, map_values
from shared.pipelines.codegen.runtime import INTEGER_MAX, INTEGER_MIN
from shared.pipelines.codegen.spots import MOMENT_ATTRIBUTES
from shared.pipelines.model import ZoneNames
from shared.pipelines.values.countries import COUNTRIES
from shared.pipelines.values.masking import masked
from shared.pipelines.values.money import currencies, spellings
from shared.pipelines.values.times import (
    RFC_3339,
    UNITS,
    date_of,
    date_reader,
    moment_of_number,
    moment_reader,
    read_zone,
)

_BOOLEANS: Final = {"true": True, "false": False}
_FIRST_SECOND: Final = -62_135_596_800
_LAST_SECOND: Final = 253_402_300_799


def convert(cell: Cell) -> None:
    """Add the conditions of a column that has a raw value, and set its value where none holds."""
    if isinstance(cell.column.values, dict):
        map_values(cell)
    _WRITERS[cell.column.type](cell)


def _require_text(cell: Cell) -> None:
    if cell.is_checked or not cell.is_text:
        cell.fail(f"type({cell.raw}) is not str", "type")


def _text(cell: Cell) -> None:
    raw = cell.raw
    is_unsure = cell.is_checked or not cell.is_text
    cell.fail(f"type({raw}) is not str or NUL in {raw}" if is_unsure else f"NUL in {raw}", "type")
    check_values(cell, raw, _text_values(cell))
    cell.let(f"{cell.value} = {raw}")


def _text_values(cell: Cell) -> frozenset[str] | None:
    values = cell.column.values
    if not isinstance(values, tuple):
        return None
    return frozenset(str(value).lower() if isinstance(value, bool) else str(value) for value in values)


def _integer(cell: Cell) -> None:
    raw = cell.raw
    if cell.is_text:
        _require_checked(cell)
        cell.let(f"{cell.whole} = {cell.call(runtime.integer_of_text, raw)}")
        cell.fail(f"{cell.whole} is None", "type")
    else:
        cell.fail(f"type({raw}) is not int", "type")
        cell.let(f"{cell.whole} = {raw}")
    apply_sign(cell, cell.whole)
    values = cell.column.values
    check_values(cell, cell.whole, frozenset(int(value) for value in values) if isinstance(values, tuple) else None)
    cell.fail(f"{cell.whole} > {INTEGER_MAX}", "max")
    cell.fail(f"{cell.whole} < {INTEGER_MIN}", "min")
    check_bounds(cell, cell.whole)
    cell.let(f"{cell.value} = {cell.whole}")


def _require_checked(cell: Cell) -> None:
    if cell.is_checked:
        cell.fail(f"type({cell.raw}) is not str", "type")


def _decimal(cell: Cell) -> None:
    raw = cell.raw
    if cell.is_text:
        _require_checked(cell)
        if cell.form.decimal_comma and cell.plan.fixed is None:
            cell.let(f"{raw} = {cell.call(runtime.with_point, raw)}")
        cell.let(f"{cell.whole} = {cell.call(runtime.decimal_of_text, raw)}")
    else:
        cell.let(f"{cell.whole} = {cell.call(runtime.decimal_of_json, raw)}")
    cell.fail_by_code(cell.whole, ("type", "precision", "min", "max"))
    apply_sign(cell, cell.whole)
    values = cell.column.values
    wanted = frozenset(Decimal(str(value)) for value in values) if isinstance(values, tuple) else None
    check_values(cell, cell.whole, wanted)
    check_bounds(cell, cell.whole)
    cell.let(f"{cell.value} = {cell.whole}")


def _boolean(cell: Cell) -> None:
    raw = cell.raw
    if cell.is_text:
        _require_checked(cell)
        cell.fail(f"{raw} not in {cell.writer.constant(_BOOLEANS)}", "type")
        cell.let(f"{cell.value} = {cell.writer.constant(_BOOLEANS)}[{raw}]")
    else:
        cell.fail(f"{raw} is not True and {raw} is not False", "type")
        cell.let(f"{cell.value} = {raw}")


def _takes_moments(cell: Cell) -> bool:
    return any(choice.spot.attribute in MOMENT_ATTRIBUTES for choice in cell.plan.choices)


def _zone(cell: Cell) -> tzinfo | None:
    return read_zone(cell.column.zone) if isinstance(cell.column.zone, str) else None


def _timestamp(cell: Cell) -> None:
    layout = cell.column.as_ or RFC_3339
    if layout == "text":
        layout = RFC_3339
    if _takes_moments(cell):
        with cell.when(f"type({cell.raw}) is DATETIME"):
            cell.writer.line(f"{cell.value} = {cell.raw}")
        if len(cell.plan.choices) == 1:
            return
    if layout in UNITS:
        _number_of_time(cell, UNITS[layout])
        return
    _require_text(cell)
    reader = moment_reader(layout, _zone(cell), zone_beside=isinstance(cell.column.zone, ZoneNames))
    beside = _zone_beside(cell)
    cell.let(f"{cell.value} = {cell.call(_or_none(reader), cell.raw, beside)}")
    cell.fail(f"{cell.value} is None", "time")


def _zone_beside(cell: Cell) -> str:
    names = cell.column.zone
    if not isinstance(names, ZoneNames) or cell.plan.zone is None:
        return "None"
    zones = {name: read_zone(offset) for name, offset in names.names.items()}
    zone = cell.writer.local("z")
    cell.let(f"{zone} = {cell.access.expression(cell.plan.zone, as_text=True, moments=False)}")
    cell.fail(f"type({zone}) is not str or {zone} not in {cell.writer.constant(zones)}", "time")
    return f"{cell.writer.constant(zones)}[{zone}]"


def _number_of_time(cell: Cell, per_second: int) -> None:
    raw = cell.raw
    if cell.is_text:
        _require_checked(cell)
        cell.let(f"{raw} = {cell.call(runtime.integer_of_text, raw)}")
        cell.fail(f"{raw} is None", "type")
    else:
        cell.fail(f"type({raw}) is not int", "type")
    cell.fail(f"not {_FIRST_SECOND * per_second} <= {raw} <= {_LAST_SECOND * per_second + per_second - 1}", "time")
    if per_second == 1:
        cell.let(f"{cell.value} = FROM_SECONDS({raw}, UTC)")
    else:
        cell.let(f"{cell.value} = {cell.call(moment_of_number, raw, str(per_second))}")


def _date(cell: Cell) -> None:
    layout = None if cell.column.as_ == "text" else cell.column.as_
    day_of = _or_none(date_of)
    zone = cell.writer.constant(_zone(cell))
    if _takes_moments(cell):
        with cell.when(f"type({cell.raw}) is DATETIME"):
            cell.writer.line(f"{cell.value} = {cell.call(day_of, cell.raw, zone)}")
        if len(cell.plan.choices) == 1:
            return
    if layout in UNITS:
        _number_of_time(cell, UNITS[layout])
        cell.let(f"{cell.value} = {cell.call(day_of, cell.value, zone)}")
    else:
        _require_text(cell)
        cell.let(f"{cell.value} = {cell.call(_or_none(date_reader(layout, _zone(cell))), cell.raw)}")
    cell.fail(f"{cell.value} is None", "time")


def _uuid(cell: Cell) -> None:
    _require_text(cell)
    cell.let(f"{cell.value} = {cell.call(runtime.uuid_of_text, cell.raw)}")
    cell.fail(f"{cell.value} is None", "type")


def _json(cell: Cell) -> None:
    raw = cell.raw
    if cell.is_text:
        _require_checked(cell)
        cell.let(f"{raw} = {cell.call(runtime.json_of_text, raw)}")
        cell.fail(f"{raw} is ...", "type")
    if cell.plan.inner_masks:
        masks = cell.writer.constant(cell.plan.inner_masks)
        cell.let(f"{raw} = {cell.call(masked, raw, masks)}")
    cell.let(f"{cell.value} = {cell.call(runtime.json_of_value, raw)}")
    cell.fail(f"{cell.value} is None", "type")


def _currency(cell: Cell) -> None:
    _require_text(cell)
    codes = _spellings()
    values = cell.column.values
    if isinstance(values, tuple):
        codes = codes | {str(value): str(value) for value in values if str(value) not in codes}
    cell.let(f"{cell.whole} = {cell.writer.constant(codes)}.get({cell.raw})")
    cell.fail(f"{cell.whole} is None", "currency")
    if isinstance(values, tuple):
        check_values(cell, cell.whole, frozenset(codes[str(value)] for value in values))
    cell.let(f"{cell.value} = {cell.whole}")


@cache
def _spellings() -> dict[str, str]:
    """Return how currencies are written; one dictionary for all columns and headers, since it is large."""
    return spellings(frozenset(currencies().exponents))


def _country(cell: Cell) -> None:
    _require_text(cell)
    cell.fail(f"{cell.raw} not in {cell.writer.constant(COUNTRIES)}", "country")
    check_values(cell, cell.raw, _text_values(cell))
    cell.let(f"{cell.value} = {cell.raw}")


def _or_none(function: Callable[..., object]) -> Callable[..., object]:
    def read(*arguments: object) -> object:
        try:
            return function(*arguments)
        except ValueError:
            return None

    return read


_WRITERS: Final[dict[str, Callable[[Cell], None]]] = {
    "text": _text,
    "integer": _integer,
    "decimal": _decimal,
    "boolean": _boolean,
    "timestamp": _timestamp,
    "date": _date,
    "uuid": _uuid,
    "json": _json,
    "currency": _currency,
    "country": _country,
}
