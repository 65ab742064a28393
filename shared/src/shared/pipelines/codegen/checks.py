"""Comparisons of exact numbers: what a check states, over a row and over the rows of its event. Pure."""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from shared.pipelines.arithmetic import Comparison, Term
from shared.pipelines.codegen.faults import CHECK_ORDER, Fault, cause_of
from shared.pipelines.codegen.plans import CheckPlan, TablePlan
from shared.pipelines.codegen.runtime import exact, is_less
from shared.pipelines.codegen.spots import CompileError, Spot, pointer_parts
from shared.pipelines.program import Amount, TypedRow, Value

_NUMBERS: Final = frozenset({"money", "integer", "decimal"})
_TEXT_CHARS_MAX: Final = 120
_PYTHON: Final = {"=": "==", "<=": "<=", ">=": ">=", "<": "<", ">": ">"}
_OPERATORS: Final[Mapping[str, Callable[[int, int], bool]]] = {
    "=": operator.eq,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
ZERO: Final[Amount] = (0, 0)

Sums = Mapping[tuple[int, int], tuple[Amount, bool]]
"""By table and position of a column (-1: the count of rows): the sum, and whether a row has no amount."""


class CheckOfSums(NamedTuple):
    """A check that needs other rows of the event: its table, what it sums, and how it fails."""

    table: int
    tables: frozenset[int]
    wanted: tuple[tuple[int, int], ...]
    holds: Callable[[Sequence[Value], Sums], bool]
    fault: Fault
    note: bool


def check_fault(plan: TablePlan, check: CheckPlan, number: int) -> Fault:
    """Return the problem of a row that does not satisfy a check."""
    text = check.comparison.text[:_TEXT_CHARS_MAX]
    return Fault(
        CHECK_ORDER + number,
        pointer_parts(Spot(plan.path.depth, plan.path.after), plan.path),
        "check",
        f"does not satisfy {text}",
        cause_of(plan.pipeline, plan.table.name, "", f"check {text}"),
    )


def simple_condition(plan: TablePlan, check: CheckPlan, names: Mapping[str, tuple[str, str]]) -> str | None:
    """Return an expression that tells whether a row fails a check, or None where a function must tell.

    It does for two columns that always have the same decimals, and for one beside a whole number. `names`: the
    variables of the value and of the whole number of each column.
    """
    comparison = check.comparison
    if len(comparison.left) != 1 or len(comparison.right) != 1 or any(term.sign < 0 for term in comparison.terms):
        return None
    columns = [term.column for term in comparison.terms if term.column]
    if not columns or any(plan.column(name).column.type not in {"money", "integer"} for name in columns):
        return None
    if len({_scale(plan, name) for name in columns}) > 1:
        return None
    numbers = [term.number for term in comparison.terms if term.number is not None]
    is_money = plan.column(columns[0]).column.type == "money"
    if any(number != 0 if is_money else number != int(number) for number in numbers):
        return None
    sides = [_side(term, names, check) for term in comparison.terms]
    condition = f"not {sides[0]} {_PYTHON[comparison.operator]} {sides[1]}"
    if check.empty_is_zero:
        return condition
    return " or ".join([*(f"{names[name][0]} is None" for name in columns), condition])


def _side(term: Term, names: Mapping[str, tuple[str, str]], check: CheckPlan) -> str:
    if term.number is not None:
        return str(int(term.number))
    value, whole = names[term.column]
    return f"(0 if {value} is None else {whole})" if check.empty_is_zero else whole


def _scale(plan: TablePlan, name: str) -> tuple[object, ...]:
    column = plan.column(name).column
    return (column.currency, column.digits) if column.type == "money" else ()


def row_check(plan: TablePlan, check: CheckPlan) -> tuple[Callable[[Sequence[Value]], bool], tuple[str, ...]]:
    """Return what tells whether values satisfy a check, and the columns that they are of. Raises CompileError."""
    names = tuple(dict.fromkeys(term.column for term in check.comparison.terms if term.column))
    for name in names:
        _position(plan, name)

    def holds(values: Sequence[Value]) -> bool:
        by_name = dict(zip(names, values, strict=True))
        return comparison_holds(
            check.comparison, lambda term: _operand(term, by_name.get(term.column), check.empty_is_zero)
        )

    return holds, names


def check_of_sums(plans: Sequence[TablePlan], plan: TablePlan, check: CheckPlan, number: int) -> CheckOfSums:
    """Return a check over the rows of the event. Raises CompileError."""
    places = {term: _summed(plans, plan, term) for term in check.comparison.terms if term.number is None}

    def operand(term: Term, values: Sequence[Value], sums: Sums) -> Amount | None:
        if not term.function:
            return _operand(term, None if term.number is not None else values[places[term][1]], check.empty_is_zero)
        total, has_empty = sums[places[term]]
        return None if has_empty and not check.empty_is_zero else total

    wanted = tuple(place for term, place in places.items() if term.function)
    return CheckOfSums(
        table=plan.number,
        tables=frozenset({plan.number, *(table for table, _ in wanted)}),
        wanted=wanted,
        holds=lambda values, sums: comparison_holds(check.comparison, lambda term: operand(term, values, sums)),
        fault=check_fault(plan, check, number),
        note=check.note,
    )


def sums_of(rows: Sequence[TypedRow], gone: frozenset[int] | set[int], wanted: Sequence[tuple[int, int]]) -> Sums:
    """Return the sums that checks need, over the rows that are no tombstones."""
    return {place: _sum(rows, gone, *place) for place in wanted}


def _sum(rows: Sequence[TypedRow], gone: frozenset[int] | set[int], table: int, column: int) -> tuple[Amount, bool]:
    counted = [row for number, row in enumerate(rows) if row.table == table and number not in gone]
    if column < 0:
        return (len(counted), 0), False
    values = [exact(row.values[column]) for row in counted]
    return total_of([value for value in values if value is not None]), None in values


def _summed(plans: Sequence[TablePlan], plan: TablePlan, term: Term) -> tuple[int, int]:
    if not term.function:
        return plan.number, _position(plan, term.column)
    for other in plans:
        if other.table.name == term.table:
            return other.number, -1 if term.function == "count" else _position(other, term.column)
    raise CompileError(f"{plan.table.name}: a check names the table {term.table[:100]}, which is none of the pipeline")


def _position(plan: TablePlan, name: str) -> int:
    found = plan.column(name)
    if found.column.type not in _NUMBERS:
        raise CompileError(f"{plan.table.name}: a check compares {name[:100]}, which is no number")
    return found.position


def _operand(term: Term, value: Value, empty_is_zero: bool) -> Amount | None:  # noqa: FBT001 - as the check says
    found = exact(term.number if term.number is not None else value)
    return ZERO if found is None and empty_is_zero else found


def comparison_holds(comparison: Comparison, operand: Callable[[Term], Amount | None]) -> bool:
    """Tell whether a comparison holds, exactly; it does not where an operand has no amount."""
    sides: list[Amount] = []
    for terms in (comparison.left, comparison.right):
        found = [(term.sign, operand(term)) for term in terms]
        known = [(sign * value[0], value[1]) for sign, value in found if value is not None]
        if len(known) != len(found):
            return False
        sides.append(total_of(known))
    left, right = sides
    order = is_less(right, left) - is_less(left, right)
    return _OPERATORS[comparison.operator](order, 0)


def total_of(amounts: Sequence[Amount]) -> Amount:
    """Return the exact sum of amounts."""
    decimals = max((scale for _, scale in amounts), default=0)
    return sum(whole * 10 ** (decimals - scale) for whole, scale in amounts), decimals
