"""All checks over the rows of one file: contract, file checks, totals and profile. Pure.

Rows are looked at as they would be loaded: a row with a problem makes none, and a tombstone is none.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from shared.pipelines.checking.groups import Ascending, Numbers
from shared.pipelines.checking.profile import ColumnProfile, Profile
from shared.pipelines.checking.reported import ReportedProblems
from shared.pipelines.checking.rules import ColumnAt, Filled, Listed, RowCount, Rule
from shared.pipelines.checking.totals import Totals, TotalsOf
from shared.pipelines.checking.unique import Unique
from shared.pipelines.checking.violations import LEVELS, Showing, Violation
from shared.pipelines.model import FileCheck, ListFile, Pipeline, Table
from shared.pipelines.program import Made, Value

_ROWS_AT_ONCE: Final = 1_000
_BYTES_AT_ONCE: Final = 4 * 1024 * 1024


class FileResult(msgspec.Struct, frozen=True):
    """What was found in a file: problems, the worst first; profiles of columns by their names; totals."""

    problems: tuple[Violation, ...]
    profile: dict[str, ColumnProfile]
    totals: tuple[Totals, ...]


class _TableRows:
    """The rows of a table that wait for its rules, which look at many at once."""

    def __init__(self, table: Table, showing: Showing) -> None:
        self.table = table
        self.rules: list[Rule] = []
        self.profile = Profile(table, showing)
        self._places: list[int] = []
        self._rows: list[tuple[Value, ...]] = []

    def add(self, place: int, values: tuple[Value, ...]) -> None:
        self._places.append(place)
        self._rows.append(values)
        if len(self._rows) >= _ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        if not self._rows:
            return
        columns = tuple(zip(*self._rows, strict=True))
        self.profile.add(columns)
        for rule in self.rules:
            rule.add(self._places, columns)
        self._places.clear()
        self._rows.clear()


class FileChecks:
    """The checks of one file."""

    def __init__(self, pipeline: Pipeline, files: Mapping[str, bytes], showing: Showing) -> None:
        """The pipeline has passed `lint`; `files` are those that it names, by name."""
        self._showing = showing
        self._tables = [_TableRows(table, showing) for table in pipeline.table]
        self._reported = ReportedProblems(pipeline, showing)
        self._counts: list[RowCount] = []
        self._totals: list[TotalsOf] = []
        self._bytes = 0
        self.rows = 0
        """Rows of the file, those that were rejected too."""
        self.invalid = 0
        """Rows that were rejected or have a problem."""
        for check in pipeline.file_check:
            self._add_check(check, files)
        for total in pipeline.total:
            rows = next(each for each in self._tables if each.table.name == total.of)
            rule = TotalsOf(
                "total",
                total.name,
                by=_columns(rows.table, total.by),
                sums=total.sums,
                must=total.must,
                positions=_positions(rows.table),
                level="error",
                showing=showing,
            )
            rows.rules.append(rule)
            self._totals.append(rule)

    def add(self, place: int, made: Made, size: int, payload: object = None) -> None:
        """Take what a row made. `size`: of the row in bytes; `payload`: the masked one, where values are shown."""
        self.rows += 1
        if made.problems:
            self.invalid += 1
            self._reported.add(place, made.problems, "error", payload)
        if made.notes:
            self._reported.add(place, made.notes, "note", payload)
        gone = made.gone
        for position, row in enumerate(made.rows):
            if position not in gone:
                self._tables[row.table].add(place, row.values)
        self._bytes += size
        if self._bytes >= _BYTES_AT_ONCE:
            self._flush()

    def reject(self, place: int, reason: str, rule: str = "fields") -> None:
        """Take a row that cannot be an event. `reason` holds no value."""
        self.rows += 1
        self.invalid += 1
        self._reported.reject(place, reason, rule)

    def tell(self, violation: Violation) -> None:
        """Add what was found otherwise."""
        self._reported.others.append(violation)

    def finish(self) -> FileResult:
        """Return what was found, after the last row."""
        self._flush()
        for count in self._counts:
            count.count(self.rows)
        problems = [*self._reported.violations(), *(each for rule in self._rules() for each in rule.violations())]
        problems.sort(key=lambda each: LEVELS.index(each.level))
        profile = {
            _label(self._tables, rows.table, name): found
            for rows in self._tables
            for name, found in rows.profile.profiles().items()
        }
        return FileResult(tuple(problems), profile, tuple(each.totals() for each in self._totals))

    def _rules(self) -> Iterator[Rule]:
        for rows in self._tables:
            yield from rows.rules
        yield from self._counts

    def _flush(self) -> None:
        self._bytes = 0
        for rows in self._tables:
            rows.flush()

    def _add_check(self, check: FileCheck, files: Mapping[str, bytes]) -> None:
        named = [rows for rows in self._tables if check.table in (None, rows.table.name)]
        if check.rows is not None:
            count = RowCount(check.table or "", check.rows, check.level)
            if check.table is None:
                self._counts.append(count)
            else:
                named[0].rules.append(count)
            return
        rule = _rule(check, named[0].table, files, self._showing)
        named[0].rules.append(rule)
        if isinstance(rule, TotalsOf):
            self._totals.append(rule)


def _rule(check: FileCheck, table: Table, files: Mapping[str, bytes], showing: Showing) -> Rule:
    """Return the rule of a check; lint has seen that it has exactly one."""
    level = check.level
    if check.unique is not None:
        types = [table.columns[name].type for name in check.unique]
        return Unique(_columns(table, check.unique), types, level, showing)
    if check.listed is not None and check.in_ is not None:
        return Listed(_column(table, check.listed), _listed(check.in_, files), level, showing)
    if check.ascending is not None:
        return Ascending(_column(table, check.ascending), _columns(table, check.by), level, showing)
    if check.complete is not None:
        complete = check.complete
        by = _columns(table, complete.by)
        return Numbers(complete, check, _column(table, complete.column), by, showing)
    if check.filled is not None:
        return Filled(_column(table, check.filled), check.share, level, showing)
    return TotalsOf(
        "sum",
        "",
        by=(),
        sums=check.sum or {},
        must=check.must,
        positions=_positions(table),
        level=level,
        showing=showing,
    )


def _listed(listed: ListFile, files: Mapping[str, bytes]) -> frozenset[str]:
    rows = csv.DictReader(io.StringIO(files[listed.list].decode("utf-8-sig"), newline=""))
    return frozenset(row[listed.column] for row in rows if row.get(listed.column) is not None)


def _positions(table: Table) -> dict[str, int]:
    return {name: position for position, name in enumerate(table.columns)}


def _column(table: Table, name: str) -> ColumnAt:
    return ColumnAt(name, _positions(table)[name])


def _columns(table: Table, names: Sequence[str]) -> tuple[ColumnAt, ...]:
    return tuple(_column(table, name) for name in names)


def _label(tables: Sequence[_TableRows], table: Table, column: str) -> str:
    return column if len(tables) == 1 else f"{table.name}.{column}"
