"""The function of one table: it reads an event, and makes rows or says what is wrong. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from shared.pipelines.codegen.access import Access
from shared.pipelines.codegen.amounts import Amounts
from shared.pipelines.codegen.cells import NOTES, PROBLEMS, Cell, Form, choose
from shared.pipelines.codegen.checks import check_fault, row_check, simple_condition
from shared.pipelines.codegen.conditions import conditions_hold, split_types
from shared.pipelines.codegen.faults import DETAILS, PROBLEMS_MAX, cause_of
from shared.pipelines.codegen.plans import ColumnPlan, TablePlan
from shared.pipelines.codegen.spots import CompileError, Spot, is_covered, pointer_parts
from shared.pipelines.codegen.types import convert
from shared.pipelines.codegen.writer import SourceWriter
from shared.pipelines.model import Present, Rank
from shared.pipelines.program import RowProblem
from shared.pipelines.values.masking import Mask, mask_of

IGNORED: Final = "ignored"
_WITH_WHOLE: Final = frozenset({"money", "integer", "decimal", "currency"})
ROWS_MAX: Final = 10_000
"""Rows that one event may make."""


class TableCode:
    """Writes the function of a table: `name(root, about, kind, state)` returns whether the table takes the event."""

    def __init__(  # noqa: PLR0913 - what belongs to one function
        self, writer: SourceWriter, access: Access, form: Form, plan: TablePlan, amounts: Amounts, *, is_summed: bool
    ) -> None:
        self._writer = writer
        self._access = access
        self._form = form
        self._plan = plan
        self._amounts = amounts
        self._is_summed = is_summed
        self._notes = any(
            column.column.otherwise == "note" or column.column.on_error or isinstance(column.column.values, dict)
            for column in plan.columns
        ) or any(check.note for check in plan.checks)

    def write(self, name: str) -> None:
        """Add the function. Raises CompileError."""
        with self._writer.block(f"def {name}(root, about, kind, state)"):
            self._writer.line("rows = state.rows")
            if self._write_absent_conditions():
                return
            if self._plan.loops:
                always = not self._plan.when and self._plan.type_spot is None
                self._writer.line(f"part = 0; matched = {always}")
            self._start_elements()
            self._write_conditions()
            self._access.fetch(spot for column in self._plan.columns for spot in column.spots)
            self._write_tombstone()
            self._write_row()
            self._end_elements()

    def _leave(self, *, matched: bool = True) -> str:
        if self._plan.loops:
            return "continue"
        return f"return {matched}"

    def _write_absent_conditions(self) -> bool:
        conditions = [*self._plan.when, *self._plan.gone]
        absent = [
            spot
            for spot, condition in conditions
            if not isinstance(condition, Present) and self._access.is_absent(spot)
        ]
        for spot in absent:
            pointer = "".join(map(str, pointer_parts(spot, self._plan.path)))
            cause = cause_of(self._plan.pipeline, self._plan.table.name, "", "absent")
            problem = RowProblem(pointer, "absent", DETAILS["absent"], cause)
            self._writer.line(f"state.problems.append({self._writer.constant(problem)})")
        if absent:
            self._writer.line("return True")
        return bool(absent)

    def _start_elements(self) -> None:
        plan = self._plan
        spots = [spot for column in plan.columns for spot in column.spots]
        spots += [spot for spot, _ in (*plan.when, *plan.gone)]
        for level, steps in enumerate(plan.path.before):
            array = Spot(level, steps)
            self._access.fetch([array, *(spot for spot in spots if spot.level == level)])
            is_last = level + 1 == plan.path.depth
            self._access.start_element(array, frozenset(plan.table.except_) if is_last else frozenset())
        if plan.path.after:
            element = Spot(plan.path.depth, plan.path.after)
            self._access.fetch([element])
            with self._writer.block(f"if {self._text_of(element)} is None"):
                self._writer.line(self._leave(matched=False))

    def _text_of(self, spot: Spot) -> str:
        return self._access.expression(spot, as_text=False, moments=False)

    def _end_elements(self) -> None:
        self._writer.indent(-self._plan.path.depth)
        self._writer.line("return matched" if self._plan.loops else "return True")

    def _write_conditions(self) -> None:
        plan, writer = self._plan, self._writer
        if plan.type_spot is not None:
            self._access.fetch([plan.type_spot])
            names, beginnings = split_types(plan.table.types)
            name = writer.local("t")
            writer.line(f"{name} = kind or {self._text_of(plan.type_spot)}")
            known = f"{name} in {writer.constant(names)} or {name}.startswith({writer.constant(beginnings)})"
            with writer.block(f"if type({name}) is not str or not ({known})"):
                writer.line("continue")
        self._access.fetch(spot for spot, _ in (*plan.when, *plan.gone))
        if plan.when:
            with writer.block(f"if not ({conditions_hold(writer, self._access, self._form, plan.when)})"):
                writer.line(self._leave(matched=False))
        if plan.loops and (plan.when or plan.type_spot):
            writer.line("matched = True")

    def _write_tombstone(self) -> None:
        plan, writer, table = self._plan, self._writer, self._plan.table
        if not plan.gone:
            return
        rank = table.rank.column if isinstance(table.rank, Rank) else table.rank
        needed = {*table.key, table.newest, rank}
        needed |= {column.column.currency for column in plan.columns if column.name in needed}
        with writer.block(f"if {conditions_hold(writer, self._access, self._form, plan.gone)}"):
            cells = self._cells(column for column in plan.columns if column.name in needed)
            for cell in cells.values():
                if cell.plan.name == rank and rank not in {*table.key, table.newest}:
                    cell.sink = IGNORED
            self._write_cells(cells)
            self._write_broken()
            self._write_told()
            writer.line("state.gone.add(len(rows))")
            self._write_appended(cells)
            writer.line(self._leave())

    def _write_row(self) -> None:
        cells = self._cells(self._plan.columns)
        self._write_cells(cells)
        self._write_checks(cells)
        self._write_told()
        if self._is_summed:
            self._writer.line(f"state.checked.append((len(rows), {self._access.keys}))")
        self._write_appended(cells)

    def _cells(self, columns: Iterable[ColumnPlan]) -> dict[str, Cell]:
        return {column.name: Cell(self._writer, self._access, self._form, self._plan, column) for column in columns}

    def _write_cells(self, cells: Mapping[str, Cell]) -> None:
        present = [cell for cell in cells.values() if self._absent_spot(cell.plan) is None]
        for cell in sorted(present, key=lambda cell: not cell.column.skip):
            choose(cell)
            if cell.column.skip:
                with self._writer.block(f"if {cell.raw} is None"):
                    self._writer.line(self._leave())
        self._writer.line(f"{PROBLEMS} = []")
        if self._notes or self._plan.gone:
            self._writer.line(f"{NOTES} = []; {IGNORED} = []")
        for cell in cells.values():
            if (spot := self._absent_spot(cell.plan)) is not None:
                self._writer.line(f"{cell.raw} = {cell.value} = {cell.whole} = None")
                self._writer.line(f"{PROBLEMS}.append({cell.fault('absent', spot)})")
        money = [cell for cell in present if cell.column.type == "money"]
        for cell in present:
            if cell.column.type != "money":
                self._write_cell(cell, self._filled_amounts(cell, money))
        for cell in money:
            self._amounts.look_up(cell, self._currency_of(cell, cells))
        for cell in money:
            self._write_amount(cell, self._currency_of(cell, cells))

    @staticmethod
    def _filled_amounts(cell: Cell, money: Sequence[Cell]) -> str:
        if cell.plan.required or cell.column.type != "currency":
            return ""
        return " or ".join(f"{each.raw} is not None" for each in money if each.column.currency == cell.plan.name)

    def _currency_of(self, cell: Cell, cells: Mapping[str, Cell]) -> Cell:
        found = cells.get(cell.column.currency or "")
        if found is None or found.column.type != "currency":
            raise CompileError(f"{self._plan.table.name}.{cell.plan.name}: needs `currency`, a column of that type")
        return found

    def _write_cell(self, cell: Cell, required_if: str) -> None:
        self._start_cell(cell, required_if)
        try:
            convert(cell)
        except (ValueError, ArithmeticError) as error:
            raise CompileError(f"{self._plan.table.name}.{cell.plan.name[:100]}: {error}") from error
        cell.chain.close()

    def _write_amount(self, cell: Cell, currency: Cell) -> None:
        self._start_cell(cell, "")
        self._amounts.convert(cell, currency)
        cell.chain.close()

    def _start_cell(self, cell: Cell, required_if: str) -> None:
        has_whole = cell.column.type in _WITH_WHOLE
        self._writer.line(f"{cell.value} = {cell.whole} = None" if has_whole else f"{cell.value} = None")
        with cell.when(f"{cell.raw} is None"):
            if cell.plan.required:
                self._writer.line(f"{self._sink_of_missing(cell)}.append({cell.fault('missing', cell.plan.first)})")
            elif required_if:
                with self._writer.block(f"if {required_if}"):
                    self._writer.line(f"{PROBLEMS}.append({cell.fault('missing', cell.plan.first)})")

    @staticmethod
    def _sink_of_missing(cell: Cell) -> str:
        return IGNORED if cell.sink == IGNORED else PROBLEMS

    def _absent_spot(self, plan: ColumnPlan) -> Spot | None:
        """Return a place that the header lacks, so that the column cannot have a value."""
        named = plan.joined or tuple(choice.spot for choice in plan.choices)
        absent = [spot for spot in named if self._access.is_absent(spot)]
        if absent and (plan.joined or len(absent) == len(named)):
            return None if plan.column.optional else absent[0]
        beside = [spot for spot in (plan.sign, plan.zone) if spot is not None and self._access.is_absent(spot)]
        return beside[0] if beside else None

    def _write_checks(self, cells: Mapping[str, Cell]) -> None:
        self._write_broken()
        names = {name: (cell.value, cell.whole) for name, cell in cells.items()}
        for number, check in enumerate(self._plan.checks):
            if check.sums:
                continue
            holds, columns = row_check(self._plan, check)
            condition = simple_condition(self._plan, check, names)
            if condition is None:
                values = "".join(f"{names[name][0]}, " for name in columns)
                condition = f"not {self._writer.constant(holds)}(({values}))"
            read = {*columns, *(cells[name].column.currency or name for name in columns)}
            positions = self._writer.constant(frozenset(cells[name].plan.position for name in read))
            fault = self._writer.constant(check_fault(self._plan, check, number))
            with self._writer.block(f"if (not {PROBLEMS} or IS_CLEAN({PROBLEMS}, {positions})) and ({condition})"):
                self._writer.line(f"{NOTES if check.note else PROBLEMS}.append({fault})")

    def _write_broken(self) -> None:
        self._writer.line(f"if {PROBLEMS}: state.broken.add({self._plan.number})")

    def _write_told(self) -> None:
        keys = self._access.keys
        if self._notes or self._plan.gone:
            self._writer.line(f"if {NOTES}: TELL({NOTES}, {keys}, state.notes)")
        with self._writer.block(f"if {PROBLEMS}"):
            self._writer.line(f"TELL({PROBLEMS}, {keys}, state.problems)")
            self._writer.line(f"if len(state.problems) >= {PROBLEMS_MAX}: return True")
            self._writer.line(f"if {self._plan.number} in state.broken: {self._leave()}")

    def _mask_by_number(self, plan: ColumnPlan) -> Mask | None:
        """Return the mask of a place that the file names, and that this column reads by its number."""
        names = [self._access.column_name(spot.number) for spot in plan.spots if spot.number]
        for steps, (_, mask) in self._plan.masks.items():
            if any(name is not None and is_covered((name,), steps) for name in names):
                return mask if plan.column.type == "text" else mask_of("drop", b"")
        return None

    def _write_appended(self, cells: Mapping[str, Cell]) -> None:
        for cell in cells.values():
            found = cell.plan.mask or self._mask_by_number(cell.plan)
            if found is not None:
                mask = self._writer.constant(found)
                self._writer.line(f"if {cell.value} is not None: {cell.value} = {mask}({cell.value})")
        values = [cells[plan.name].value if plan.name in cells else "None" for plan in self._plan.columns]
        part = "part" if self._plan.loops else "0"
        self._writer.line(f"rows.append(NEW(TypedRow, ({self._plan.number}, {part}, ({', '.join(values)},))))")
        if self._plan.loops:
            self._writer.line("part += 1")
            self._writer.line(f"if len(rows) > {ROWS_MAX}: return True")
