"""What rows of a file say is wrong with them, gathered by cause. Pure."""

from collections.abc import Iterator, Sequence
from typing import Final

from shared.pipelines.checking.violations import FirstPlaces, Level, Showing, Violation
from shared.pipelines.model import Pipeline
from shared.pipelines.program import RowProblem

CAUSES_MAX: Final = 500
"""Causes, and reasons of rejected rows, that are told apart in one file."""

_OTHERS: Final = "others"
_UNKNOWN: Final = "unknown_member"


class _Reported:
    """One cause: how it is reported, and where it was found."""

    def __init__(self, rule: str, column: str, level: Level, detail: str, showing: Showing) -> None:
        self.rule = rule
        self.column = column
        self.level = level
        self.detail = detail
        self.found = FirstPlaces(showing)
        self.last = -1


class ReportedProblems:
    """Gathers the problems of rows: each cause once, with the rows that have it."""

    def __init__(self, pipeline: Pipeline, showing: Showing) -> None:
        self._showing = showing
        self._one_table = len(pipeline.table) == 1
        self._by_cause: dict[tuple[str, str, str], _Reported] = {}
        self.others: list[Violation] = []
        """What was found otherwise."""

    def add(self, place: int, problems: Sequence[RowProblem], level: Level, payload: object) -> None:
        """Take the problems, or notes, of one row."""
        for problem in problems:
            # A cause does not name the member; which one it is, is what people want to know.
            member = problem.pointer if problem.code == _UNKNOWN else ""
            key = (level, problem.cause, member)
            reported = self._by_cause.get(key)
            if reported is None:
                reported = self._new(key, self._named(problem, member), level, problem.detail)
            if reported.last != place:
                reported.last = place
                # Nobody said whether a member that is not read must be masked.
                wants_value = reported.found.wants_value and not member
                reported.found.add(place, _value_at(payload, problem.pointer) if wants_value else None)

    def reject(self, place: int, reason: str, rule: str) -> None:
        """Take a row that cannot be an event."""
        key = ("error", rule, reason)
        reported = self._by_cause.get(key) or self._new(key, (rule, ""), "error", reason)
        reported.found.add(place)

    def violations(self) -> Iterator[Violation]:
        """Yield each cause, in the order in which they came first."""
        yield from self.others
        for reported in self._by_cause.values():
            yield reported.found.violation(reported.rule, reported.column, reported.level, reported.detail)

    def _new(self, key: tuple[str, str, str], named: tuple[str, str], level: Level, detail: str) -> _Reported:
        if len(self._by_cause) >= CAUSES_MAX:
            key, named, detail = (level, _OTHERS, ""), (_OTHERS, ""), "further causes, which are not told apart"
        if key not in self._by_cause:
            self._by_cause[key] = _Reported(*named, level, detail, self._showing)
        return self._by_cause[key]

    def _named(self, problem: RowProblem, member: str) -> tuple[str, str]:
        """Return the rule and the column of a cause: `pipeline.table.column:code`, or `pipeline.table:check text`."""
        where, _, code = problem.cause.partition(":")
        names = where.split(".")[1:]
        if member:
            return problem.code, member.removeprefix("/").replace("~1", "/").replace("~0", "~")
        if problem.code == "check":
            names.append(code.removeprefix("check").strip())
        # In a pipeline of one table its name says nothing.
        return problem.code, ".".join(names[1:] if self._one_table else names)


def _value_at(payload: object, pointer: str) -> str | None:
    """Return the text of what stands at a place of a masked payload, or None where it is no single value."""
    value = payload
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    if value is None or isinstance(value, dict | list):
        return None
    return str(value)
