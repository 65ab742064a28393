"""A pipeline interpreted for each event: the yardstick of the generated code."""

from shared.pipelines.arithmetic import read_comparison
from shared.pipelines.model import Check, Rank, Table
from shared.pipelines.places import pointer_of
from support.interpreted_places import Element, EventReader, Interpreted
from support.interpreted_rows import RowReader, RowSkippedError


class Interpreter(EventReader):
    """Interprets one event under a pipeline."""

    def run(self) -> Interpreted:
        """Return what the event makes."""
        sums: list[tuple[Table, int, Element, int]] = []
        for number, table in enumerate(self.pipeline.table):
            part = 0
            if self._tell_absent_conditions(table):
                continue
            for element in self._elements(table):
                if not self._takes(table, element):
                    continue
                self.made.matched = True
                position = len(self.made.rows)
                if self._row(number, table, element, part):
                    sums.append((table, position, element, part))
                part += len(self.made.rows) - position
            self.made.matched |= bool(table.at) and "*" in table.at and not table.when and self._is_type(table)
        self._check_sums(sums)
        self._finish()
        return self.made

    def _finish(self) -> None:
        made, name = self.made, self.pipeline.name
        if len(made.rows) > 10_000:
            made.problems.append(("", "too_many", f"{name}:too_many"))
        if not made.matched and self.pipeline.drift.unknown_type != "ignore":
            told = made.problems if self.pipeline.drift.unknown_type == "fail" else made.notes
            told.append(("", "unknown_type", f"{name}:unknown_type"))
        if made.problems:
            made.rows, made.gone = [], set()

    def _row(self, number: int, table: Table, element: Element, part: int) -> bool:
        is_gone = bool(table.gone) and self._hold(table.gone, element)
        rank = table.rank.column if isinstance(table.rank, Rank) else table.rank
        wanted: set[str | None] = {*table.key, table.newest, rank} if is_gone else {*table.columns}
        wanted |= {column.currency for name, column in table.columns.items() if name in wanted}
        row = RowReader(self, table, element)
        try:
            row.read(wanted, {rank} - {*table.key, table.newest} if is_gone else set())
        except RowSkippedError:
            return False
        if not is_gone:
            row.check()
        self.made.notes += [told for _, told in sorted(row.notes, key=lambda each: each[0])]
        self.made.problems += [told for _, told in sorted(row.problems, key=lambda each: each[0])]
        if row.bad_columns:
            self.broken.add(table.name)
            return False
        if is_gone:
            self.made.gone.add(len(self.made.rows))
        self.made.rows.append((number, part, tuple(row.values.get(name) for name in table.columns)))
        return not is_gone

    def _check_sums(self, sums: list[tuple[Table, int, Element, int]]) -> None:
        if any(row is None for row in self.made.rows):
            return
        for table, position, element, _ in sums:
            for check in table.check:
                rule = check if isinstance(check, Check) else Check(check)
                comparison = read_comparison(rule.must)
                tables = {table.name, *(term.table for term in comparison.terms if term.function)}
                if not any(term.function for term in comparison.terms) or tables & self.broken:
                    continue
                values = dict(zip(table.columns, self.made.rows[position][2], strict=True))
                if not self.holds(comparison, values, empty_is_zero=rule.empty == 0):
                    text = comparison.text[:120]
                    told = self.made.notes if rule.level == "note" else self.made.problems
                    told.append(
                        (pointer_of(*element.steps), "check", f"{self.pipeline.name}.{table.name}:check {text}")
                    )
