"""Places as the code reads them: which element they start from, and the members from there. Pure."""

from collections.abc import Iterable
from typing import Final

import msgspec

from shared.pipelines.places import STAR, Location, Origin, PlaceError, pointer_of, read_place

INTEGER_ATTRIBUTES: Final = frozenset({"@row", "@index"})
MOMENT_ATTRIBUTES: Final = frozenset({"@file_at", "@occurred_at", "@received_at"})
VALUE: Final = "@value"
DEPTH_MAX: Final = 8
"""Arrays or objects that the `at` of a table may go through."""

ELEMENT_ATTRIBUTES: Final = frozenset({"@index", "@key", VALUE})


class CompileError(ValueError):
    """A pipeline cannot be compiled; the message names the table and column, and says why."""


class Spot(msgspec.Struct, frozen=True):
    """Where a value is read: from the root (level 0) or from the element of a `*`, counted from 1, then by `steps`.

    `attribute` and `number` (of a column of a CSV file) stand alone.
    """

    level: int = 0
    steps: tuple[str, ...] = ()
    attribute: str = ""
    number: int = 0


class ElementPath(msgspec.Struct, frozen=True):
    """The `at` of a table: the steps before each `*`, and those after the last."""

    before: tuple[tuple[str, ...], ...]
    after: tuple[str, ...]

    @property
    def depth(self) -> int:
        """How many `*` it has: the level of the current element."""
        return len(self.before)


def element_path(at: str) -> ElementPath:
    """Return what the `at` of a table says. Raises CompileError."""
    if not at:
        return ElementPath((), ())
    steps = _location(at).steps
    before: list[tuple[str, ...]] = []
    start = 0
    for number, step in enumerate(steps):
        if step == STAR:
            before.append(steps[start:number])
            start = number + 1
    if len(before) > DEPTH_MAX:
        raise CompileError(f"at: goes through more than {DEPTH_MAX} arrays or objects")
    return ElementPath(tuple(before), steps[start:])


def spot_of(place: str, path: ElementPath) -> Spot:
    """Return where a place of a table is read. Raises CompileError, as where its `*` are not those of `at`."""
    location = _location(place)
    if location.attribute:
        if location.attribute == VALUE:
            return Spot(path.depth, path.after)
        return Spot(attribute=location.attribute)
    if location.origin is Origin.POSITION:
        return Spot(number=location.number)
    if location.origin is Origin.ELEMENT:
        return Spot(path.depth, path.after + location.steps)
    steps, level = location.steps, 0
    while STAR in steps:
        star = steps.index(STAR)
        if level == path.depth or steps[:star] != path.before[level]:
            raise CompileError(f"{place} goes through elements that `at` of the table does not name")
        steps, level = steps[star + 1 :], level + 1
    return Spot(level, steps)


def absolute_steps(spot: Spot, path: ElementPath) -> tuple[str, ...]:
    """Return the steps of a spot from the root, with `*` for each element."""
    before = [(*steps, STAR) for steps in path.before[: spot.level]]
    return tuple(step for steps in before for step in steps) + spot.steps


def pointer_parts(spot: Spot, path: ElementPath) -> tuple[str | int, ...]:
    """Return the JSON Pointer of a spot: texts, and the levels whose index or key stands between them."""
    if spot.attribute:
        return pointer_parts(Spot(path.depth, path.after), path) if spot.attribute in ELEMENT_ATTRIBUTES else ()
    if spot.number:
        return (f"#{spot.number}",)
    parts: list[str | int] = []
    for level, steps in enumerate(path.before[: spot.level], 1):
        parts += [pointer_of(*steps) + "/", level]
    return (*parts, pointer_of(*spot.steps))


def root_steps(place: str) -> tuple[str, ...] | None:
    """Return the steps of a place outside tables from the root, or None where it is an attribute or a position."""
    location = _location(place)
    return location.steps if location.origin in {Origin.ROOT, Origin.ELEMENT} else None


def is_covered(steps: tuple[str, ...], by: Iterable[str]) -> bool:
    """Tell whether steps from the root are those of another place, or lie under it. `*` stands for every step."""
    other = tuple(by)
    return len(other) <= len(steps) and all(
        mine == its or STAR in {mine, its} for mine, its in zip(steps, other, strict=False)
    )


def _location(place: str) -> Location:
    try:
        return read_place(place)
    except PlaceError as error:
        raise CompileError(f"{place[:100]} {error}") from error
