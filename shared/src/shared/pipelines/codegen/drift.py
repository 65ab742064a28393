"""Members of an event that no column reads. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from shared.pipelines.codegen.plans import TablePlan
from shared.pipelines.codegen.spots import CompileError, absolute_steps, root_steps
from shared.pipelines.model import Join, Moment, Pipeline, ZoneNames
from shared.pipelines.places import STAR, pointer_of
from shared.pipelines.program import RowProblem

NAMES_MAX: Final = 20
"""Unknown members that are told of one event."""

_DEPTH_MAX: Final = 2
_SEEN_MAX: Final = 1_000
_NAME_CHARS_MAX: Final = 100


def known_places(pipeline: Pipeline, plans: Sequence[TablePlan]) -> set[tuple[str, ...]]:
    """Return the steps from the root of every place that the file names."""
    places = {steps for place in _outside_tables(pipeline) if (steps := _steps(place)) is not None}
    for plan in plans:
        spots = [spot for column in plan.columns for spot in column.spots]
        spots += [spot for spot, _ in (*plan.when, *plan.gone)]
        places |= {absolute_steps(spot, plan.path) for spot in spots if not spot.attribute and not spot.number}
        if plan.path.depth:
            places.add((*(step for steps in plan.path.before[:1] for step in steps), STAR))
    return places


def _outside_tables(pipeline: Pipeline) -> Iterator[str]:
    event, personal = pipeline.event, pipeline.personal
    yield from pipeline.mask
    yield from event.ignore
    if personal is not None:
        yield from (personal.subject, *personal.places)
    for rule in (event.id, event.type, event.occurred_at):
        if isinstance(rule, Join):
            yield from rule.join
        elif isinstance(rule, Moment):
            yield rule.from_
            if isinstance(rule.zone, ZoneNames):
                yield rule.zone.from_
        elif rule is not None:
            yield rule


def _steps(place: str) -> tuple[str, ...] | None:
    try:
        return root_steps(place)
    except CompileError:
        return None


class UnknownMembers:
    """Finds the members beside those that are read, in the root and in the objects up to two levels below it."""

    def __init__(self, pipeline: str, places: Iterable[tuple[str, ...]]) -> None:
        self._cause = f"{pipeline}:unknown_member"
        known: dict[tuple[str, ...], set[str]] = {}
        whole: set[tuple[str, ...]] = set()
        for steps in places:
            for depth, step in enumerate(steps[: _DEPTH_MAX + 1]):
                if step == STAR:
                    whole.add(steps[:depth])
                    break
                known.setdefault(steps[:depth], set()).add(step)
            else:
                whole.add(steps)
        self._known = {
            parent: names
            for parent, names in sorted(known.items())
            if not any(parent[:depth] in whole for depth in range(len(parent) + 1))
        }
        self._seen: set[tuple[tuple[str, ...], tuple[str, ...]]] = set()

    def of(self, payload: object) -> list[RowProblem]:
        """Return a problem for each unknown member, 20 at most."""
        found: list[RowProblem] = []
        for parent, known in self._known.items():
            holder = payload
            for step in parent:
                holder = holder.get(step) if type(holder) is dict else None
            if type(holder) is not dict or (shape := (parent, tuple(holder))) in self._seen:
                continue
            unknown = [name for name in holder if name not in known]
            if not unknown and len(self._seen) < _SEEN_MAX:
                self._seen.add(shape)
            found += [unknown_member(pointer_of(*parent, name[:_NAME_CHARS_MAX]), self._cause) for name in unknown]
            if len(found) >= NAMES_MAX:
                break
        return found[:NAMES_MAX]


def unknown_columns(
    pipeline: str, header: Sequence[str], places: Iterable[tuple[str, ...]], numbers: Iterable[int]
) -> list[RowProblem]:
    """Return a problem for each column of a CSV file that no place names, 20 at most."""
    cause = f"{pipeline}:unknown_member"
    unknown = unknown_names(header, places, numbers)
    return [unknown_member(pointer_of(name[:_NAME_CHARS_MAX]), cause) for name in unknown[:NAMES_MAX]]


def unknown_names(header: Sequence[str], places: Iterable[tuple[str, ...]], numbers: Iterable[int]) -> list[str]:
    """Return the names of the columns that no place names; `numbers` are those that one names by number."""
    names = {steps[0] for steps in places if steps}
    if STAR in names:
        return []
    positions = set(numbers)
    return [name for number, name in enumerate(header, 1) if name and name not in names and number not in positions]


def unknown_member(pointer: str, cause: str) -> RowProblem:
    """Return the problem of a member that no column reads."""
    return RowProblem(pointer.replace("\x00", "\ufffd"), "unknown_member", "is read by no column", cause)
