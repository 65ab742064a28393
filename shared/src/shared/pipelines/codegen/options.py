"""Code for the options of columns that several types have: values, bounds and signs. Pure."""

from decimal import Decimal

from shared.pipelines.codegen import runtime
from shared.pipelines.codegen.cells import NOTES, Cell
from shared.pipelines.model import Bound, Otherwise


def map_values(cell: Cell) -> None:
    """Add code that replaces the raw text of a column by what `values` says; it is read as text from there on."""
    raw, mapping = cell.raw, cell.writer.constant(cell.column.values)
    if cell.is_checked or not cell.is_text:
        cell.fail(f"type({raw}) is not str", "type")
        cell.is_text, cell.is_checked = True, False
    if isinstance(cell.column.otherwise, Otherwise):
        cell.let(f"{raw} = {mapping}.get({raw}, {cell.writer.constant(cell.column.otherwise.value)})")
    elif cell.column.otherwise == "note":
        cell.let(f"if {raw} in {mapping}:", f"    {raw} = {mapping}[{raw}]")
        cell.let("else:", f"    {NOTES}.append({cell.fault('value')})")
    else:
        cell.fail(f"{raw} not in {mapping}", "value")
        cell.let(f"{raw} = {mapping}[{raw}]")


def check_values(cell: Cell, name: str, wanted: frozenset[str] | frozenset[int] | frozenset[Decimal] | None) -> None:
    """Add code that holds a value against the list `values`."""
    if wanted is None:
        return
    condition = f"{name} not in {cell.writer.constant(wanted)}"
    if isinstance(cell.column.otherwise, Otherwise):
        other = cell.column.otherwise.value
        replacement: object = other if cell.column.type in {"text", "country", "currency"} else Decimal(other)
        if cell.column.type == "integer":
            replacement = int(other)
        cell.let(f"if {condition}:", f"    {name} = {cell.writer.constant(replacement)}")
    elif cell.column.otherwise == "note":
        cell.let(f"if {condition}:", f"    {NOTES}.append({cell.fault('value')})")
    else:
        cell.fail(condition, "value")


def check_bounds(cell: Cell, name: str) -> None:
    """Add code that holds a number against `min` and `max`."""
    if cell.column.min is not None:
        cell.fail(f"{name} < {cell.writer.constant(cell.column.min)}", "min")
    if cell.column.max is not None:
        cell.fail(f"{name} > {cell.writer.constant(cell.column.max)}", "max")


def exact_bound(bound: Bound) -> tuple[int, int]:
    """Return a bound as a whole number and its decimals."""
    number = Decimal(bound)
    sign, digits, exponent = number.as_tuple()
    places = exponent if isinstance(exponent, int) else 0
    whole = int("".join(map(str, digits))) * (-1 if sign else 1) * 10 ** max(0, places)
    return whole, max(0, -places)


def apply_sign(cell: Cell, name: str) -> None:
    """Add code that makes a number negative where the column, the chosen place or another place says so."""
    negative = cell.call(runtime.negated, name) if cell.column.type == "decimal" else f"-{name}"
    if cell.plan.choices and len({choice.negate for choice in cell.plan.choices}) > 1:
        flags = cell.writer.constant(tuple(choice.negate != cell.column.negate for choice in cell.plan.choices))
        cell.let(f"if {flags}[{cell.chosen}]:", f"    {name} = {negative}")
    elif cell.column.negate != any(choice.negate for choice in cell.plan.choices):
        cell.let(f"{name} = {negative}")
    sign = cell.column.sign
    if sign is None or cell.plan.sign is None:
        return
    minus = dict.fromkeys(sign.minus, True) | dict.fromkeys(sign.plus, False)
    flags, mark = cell.writer.constant(minus), cell.writer.local("s")
    cell.let(f"{mark} = {cell.access.expression(cell.plan.sign, as_text=True, moments=False)}")
    cell.let(f"if {mark} is None:", f'    {mark} = ""')
    cell.fail(f'{mark} == "" and {mark} not in {flags}', "missing", cell.plan.sign)
    cell.fail(f"type({mark}) is not str or {mark} not in {flags}", "value", cell.plan.sign)
    cell.let(f"if {flags}[{mark}]:", f"    {name} = {negative}")
