"""Code for the value of one column: what every type shares. Pure."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from shared.pipelines.codegen.access import Access
from shared.pipelines.codegen.faults import DETAILS, TYPE_DETAILS, Fault, cause_of
from shared.pipelines.codegen.plans import ColumnPlan, TablePlan
from shared.pipelines.codegen.spots import Spot, pointer_parts
from shared.pipelines.codegen.writer import Chain, SourceWriter
from shared.pipelines.model import Otherwise
from shared.pipelines.values.times import UNITS

MISSING_TEXT: Final = "MISSING"
PROBLEMS: Final = "bad"
NOTES: Final = "odd"


class Form(msgspec.Struct, frozen=True):
    """The form of the input that code is written for: JSON, or rows of text. `missing`: texts that are no value."""

    is_csv: bool
    missing: frozenset[str]
    decimal_comma: bool


class Cell:
    """The code of one column. `raw` and `value` are its local variables; `chain` holds its conditions.

    `sink`: the list that takes what is wrong; that of the notes where the column becomes NULL then.
    `is_text`: the raw value is a text that is read by full match. `is_checked`: it may still be something else.
    """

    def __init__(self, writer: SourceWriter, access: Access, form: Form, table: TablePlan, plan: ColumnPlan) -> None:
        self.sink = NOTES if plan.column.on_error == "null" else PROBLEMS
        self.writer = writer
        self.access = access
        self.form = form
        self.plan = plan
        self.column = plan.column
        self.chain = Chain(writer)
        self.raw = writer.local("r")
        self.value = writer.local("v")
        self.whole = writer.local("w")
        self.chosen: str | None = None
        self.is_text = self._is_text()
        self.is_checked = self.is_text and not form.is_csv and plan.fixed is None
        self._table = table

    @property
    def keeps_moments(self) -> bool:
        """Moments that are known of the event are taken as they are."""
        return self.column.type in {"timestamp", "date"}

    def _is_text(self) -> bool:
        numbers = self.column.type in {"integer", "decimal"}
        if (
            self.plan.choices
            and numbers
            and all(choice.spot.attribute in {"@row", "@index"} for choice in self.plan.choices)
        ):
            return False
        return self.form.is_csv or self.column.as_ == "text" or not self.plan.choices

    def fault(self, code: str, spot: Spot | None = None) -> str:
        """Return the expression of a problem: at a place, else at that whose value was taken."""
        if spot is not None or self.chosen is None:
            place = spot or self.plan.first
            return self.writer.constant(self._fault(code, place))
        by_choice = tuple(self._fault(code, choice.spot) for choice in self.plan.choices)
        return f"{self.writer.constant(by_choice)}[{self.chosen}]"

    def _fault(self, code: str, spot: Spot) -> Fault:
        pipeline, table = self._table.pipeline, self._table.table.name
        parts = pointer_parts(spot, self._table.path)
        if code == "absent" and spot.number:
            parts = (f"#{spot.number}",)
        return Fault(
            self.plan.position, parts, code, self._detail(code), cause_of(pipeline, table, self.plan.name, code)
        )

    def _detail(self, code: str) -> str:
        if code == "type":
            return TYPE_DETAILS[self.column.type]
        if code == "time":
            return "is no date or point in time as `as` and `zone` of the column say"
        return DETAILS[code]

    def fail(self, condition: str, code: str, spot: Spot | None = None) -> None:
        """Add a condition under which the column has a problem, and no value."""
        with self.chain.when(condition):
            self.writer.line(f"{self.sink}.append({self.fault(code, spot)})")

    def fail_by_code(self, name: str, codes: tuple[str, ...]) -> None:
        """Add the condition that a variable holds a code, a text, instead of a value."""
        with self.chain.when(f"type({name}) is str"):
            faults = [f"{self.writer.constant(code)}: {self.fault(code)}" for code in codes]
            self.writer.line(f"{self.sink}.append({{{', '.join(faults)}}}[{name}])")

    def let(self, *lines: str) -> None:
        """Add lines that run where nothing is wrong so far."""
        self.chain.let(*lines)

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """Add a condition that ends the chain with the lines of the body."""
        with self.chain.when(condition):
            yield

    def call(self, function: Callable[..., object], *arguments: str) -> str:
        """Return the call of a function that was made for this column."""
        return f"{self.writer.constant(function)}({', '.join(arguments)})"


def choose(cell: Cell) -> None:
    """Add code that sets the raw value of a column, or None, without its conditions."""
    plan, writer = cell.plan, cell.writer
    if plan.fixed is not None:
        writer.line(f"{cell.raw} = {writer.constant(plan.fixed)}")
        return
    if plan.joined:
        _join(cell)
    else:
        _choose_first(cell)
    _prepare(cell)


def _expression(cell: Cell, spot: Spot) -> str:
    as_text = cell.is_text or cell.column.type not in {"integer", "decimal"}
    return cell.access.expression(spot, as_text=as_text, moments=cell.keeps_moments)


def _join(cell: Cell) -> None:
    parts = [cell.writer.local("p") for _ in cell.plan.joined]
    for part, spot in zip(parts, cell.plan.joined, strict=True):
        cell.writer.line(f"{part} = {cell.access.expression(spot, as_text=True, moments=False)}")
    join = getattr(cell.column.from_, "with_", "")
    with cell.writer.block(f"if {' or '.join(f'{part} is None' for part in parts)}"):
        cell.writer.line(f"{cell.raw} = None")
    if not cell.form.is_csv:
        with cell.writer.block(f"elif {' or '.join(f'type({part}) is not str' for part in parts)}"):
            cell.writer.line(f"{cell.raw} = ...")
    with cell.writer.block("else"):
        cell.writer.line(f"{cell.raw} = {cell.writer.constant(join)}.join(({', '.join(parts)},))")


def _choose_first(cell: Cell) -> None:
    choices, writer = cell.plan.choices, cell.writer
    if len(choices) > 1:
        cell.chosen = writer.local("n")
        writer.line(f"{cell.chosen} = 0")
    first = _expression(cell, choices[0].spot)
    if len(choices) == 1 and first.isidentifier() and first != "None" and not _changes_raw(cell):
        cell.raw = first
        return
    writer.line(f"{cell.raw} = {first}")
    for number, choice in enumerate(choices[1:], 1):
        writer.line(f"if {_holds_nothing(cell)}:")
        writer.indent()
        writer.line(f"{cell.raw} = {_expression(cell, choice.spot)}")
        writer.line(f"{cell.chosen} = {number}")
    writer.indent(1 - len(choices))


def _changes_raw(cell: Cell) -> bool:
    """Tell whether the code sets the raw value anew. Where it does not, it reads the variable of the place."""
    column = cell.column
    if column.trim or column.case or column.as_ == "text" or column.type == "json":
        return True
    if isinstance(column.values, dict) or isinstance(column.otherwise, Otherwise):
        return True
    if not cell.is_text:
        return False
    return column.type == "money" or column.as_ in UNITS or cell.form.decimal_comma


def _holds_nothing(cell: Cell) -> str:
    conditions = [f"{cell.raw} is None"]
    if not cell.form.is_csv:
        if cell.column.type != "json":
            conditions.append(f"type({cell.raw}) is dict")
        if cell.column.as_ == "text":
            conditions.append(f"(type({cell.raw}) is str and {cell.raw} in {MISSING_TEXT})")
    return " or ".join(conditions)


def _prepare(cell: Cell) -> None:
    """Trim and change the case of a text, and leave out texts that mean no value."""
    column, raw, writer = cell.column, cell.raw, cell.writer
    lines = [f"{raw} = {raw}.strip()"] if column.trim else []
    if column.case:
        lines.append(f"{raw} = {raw}.{'upper' if column.case == 'upper' else 'lower'}()")
    if lines:
        with writer.block(f"if type({raw}) is str"):
            for line in lines:
                writer.line(line)
    is_cell = cell.form.is_csv or column.as_ == "text"
    if is_cell and (column.trim or not cell.form.is_csv):
        condition = "" if cell.form.is_csv else f"type({raw}) is str and "
        if cell.form.is_csv and cell.keeps_moments:
            condition = f"type({raw}) is str and "
        with writer.block(f"if {condition}{raw} in {MISSING_TEXT}"):
            writer.line(f"{raw} = None")
