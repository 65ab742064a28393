"""What the code of a table must do, worked out of the file and checked. Pure."""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from shared.pipelines.arithmetic import ArithmeticSyntaxError, Comparison, read_comparison
from shared.pipelines.codegen.spots import (
    CompileError,
    ElementPath,
    Spot,
    absolute_steps,
    element_path,
    is_covered,
    root_steps,
    spot_of,
)
from shared.pipelines.model import Alternative, Check, Column, Condition, Join, Masking, Pipeline, Table, ZoneNames
from shared.pipelines.values.masking import STRICTEST_FIRST, Mask, mask_of

_MASKED_TYPES: Final = ("text", "json")


class Choice(msgspec.Struct, frozen=True):
    """A place whose value may be taken, and whether it counts negatively."""

    spot: Spot
    negate: bool = False


class ColumnPlan(msgspec.Struct, frozen=True):
    """A column. Its raw value is `fixed`, else the texts of `joined`, else the first of `choices` that holds something.

    `inner_masks`: of a JSON value, what is masked within it, by steps.
    """

    position: int
    name: str
    column: Column
    choices: tuple[Choice, ...] = ()
    joined: tuple[Spot, ...] = ()
    fixed: str | None = None
    sign: Spot | None = None
    zone: Spot | None = None
    required: bool = False
    mask: Mask | None = None
    inner_masks: Mapping[tuple[str, ...], Mask] = {}

    @property
    def spots(self) -> tuple[Spot, ...]:
        """All places that the column reads."""
        beside = tuple(spot for spot in (self.sign, self.zone) if spot is not None)
        return (*(choice.spot for choice in self.choices), *self.joined, *beside)

    @property
    def first(self) -> Spot:
        """The place that is named where the column has no value."""
        return (*self.spots, Spot())[0]


class CheckPlan(msgspec.Struct, frozen=True):
    """A comparison over the row, or over rows of the event where it `sums`."""

    comparison: Comparison
    note: bool
    empty_is_zero: bool

    @property
    def sums(self) -> bool:
        """It needs other rows of the event."""
        return any(term.function for term in self.comparison.terms)


class TablePlan(msgspec.Struct, frozen=True):
    """A table: its elements, conditions, columns and checks. `type_spot`: where the type of an element stands."""

    pipeline: str
    number: int
    table: Table
    path: ElementPath
    columns: tuple[ColumnPlan, ...]
    when: tuple[tuple[Spot, Condition], ...]
    gone: tuple[tuple[Spot, Condition], ...]
    checks: tuple[CheckPlan, ...]
    type_spot: Spot | None
    masks: Mapping[tuple[str, ...], tuple[Masking, Mask]]

    @property
    def loops(self) -> bool:
        """It may make several rows of an event."""
        return self.path.depth > 0

    def column(self, name: str) -> ColumnPlan:
        """Return a column by its name. Raises CompileError."""
        for plan in self.columns:
            if plan.name == name:
                return plan
        raise CompileError(f"{self.table.name} has no column {name[:100]}")


def table_plan(pipeline: Pipeline, number: int, mask_key: bytes) -> TablePlan:
    """Return what the code of a table must do. Raises CompileError."""
    table = pipeline.table[number]
    path = element_path(table.at)
    masks = mask_rules(pipeline, mask_key)
    return TablePlan(
        pipeline=pipeline.name,
        number=number,
        table=table,
        path=path,
        columns=tuple(_column_plan(table, path, masks, position, name) for position, name in enumerate(table.columns)),
        when=tuple((spot_of(place, path), condition) for place, condition in table.when.items()),
        gone=tuple((spot_of(place, path), condition) for place, condition in table.gone.items()),
        checks=tuple(_check_plan(table, check) for check in table.check),
        type_spot=type_spot(pipeline, path) if table.types else None,
        masks=masks,
    )


def type_spot(pipeline: Pipeline, path: ElementPath) -> Spot | None:
    """Return where the type of an element stands, or None where the type is that of the whole event."""
    if pipeline.event.type is None or not path.depth:
        return None
    try:
        spot = spot_of(pipeline.event.type, path)
    except CompileError:
        return None
    return spot if spot.level else None


def mask_rules(pipeline: Pipeline, key: bytes) -> dict[tuple[str, ...], tuple[Masking, Mask]]:
    """Return the masks by the steps of their places, the strictest first. Raises CompileError."""
    rules: dict[tuple[str, ...], tuple[Masking, Mask]] = {}
    for place, method in sorted(pipeline.mask.items(), key=lambda rule: STRICTEST_FIRST.index(rule[1])):
        steps = root_steps(place)
        if steps is None:
            raise CompileError(f"mask: {place[:100]} must name a member or a column")
        rules[steps] = (method, mask_of(method, key))
    return rules


def _column_plan(
    table: Table,
    path: ElementPath,
    masks: Mapping[tuple[str, ...], tuple[Masking, Mask]],
    position: int,
    name: str,
) -> ColumnPlan:
    column = table.columns[name]
    try:
        choices, joined, fixed = _origin(column, name, path)
        spots = [*(choice.spot for choice in choices), *joined]
        places = [absolute_steps(spot, path) for spot in spots if not spot.attribute and not spot.number]
        return ColumnPlan(
            position=position,
            name=name,
            column=column,
            choices=choices,
            joined=joined,
            fixed=fixed,
            sign=spot_of(column.sign.from_, path) if column.sign else None,
            zone=spot_of(column.zone.from_, path) if isinstance(column.zone, ZoneNames) else None,
            required=column.required or name in table.key or name == table.newest,
            mask=_mask(column, places, masks),
            inner_masks=_inner_masks(column, places, masks),
        )
    except CompileError as error:
        raise CompileError(f"{table.name}.{name[:100]}: {error}") from error


def _origin(column: Column, name: str, path: ElementPath) -> tuple[tuple[Choice, ...], tuple[Spot, ...], str | None]:
    if column.value is not None and column.from_ is None:
        return (), (), str(column.value).lower() if isinstance(column.value, bool) else str(column.value)
    if isinstance(column.from_, Join):
        return (), tuple(spot_of(place, path) for place in column.from_.join), None
    places = column.from_ if isinstance(column.from_, tuple) else (column.from_ or name,)
    return tuple(_choices(places, path)), (), None


def _choices(places: tuple[str | Alternative, ...], path: ElementPath) -> Iterator[Choice]:
    for place in places:
        if isinstance(place, Alternative):
            yield Choice(spot_of(place.from_, path), place.negate)
        else:
            yield Choice(spot_of(place, path))


def _mask(
    column: Column, places: list[tuple[str, ...]], masks: Mapping[tuple[str, ...], tuple[Masking, Mask]]
) -> Mask | None:
    for steps, (method, mask) in masks.items():
        if any(is_covered(place, steps) for place in places):
            if method != "drop" and column.type not in _MASKED_TYPES:
                raise CompileError(f"reads a masked place; only a text can be masked by {method}")
            return mask if column.type != "json" or method == "drop" else _dropped
    return None


def _dropped(_: str) -> None:
    """Return nothing: a JSON value that is masked as a whole is not kept."""


def _inner_masks(
    column: Column, places: list[tuple[str, ...]], masks: Mapping[tuple[str, ...], tuple[Masking, Mask]]
) -> dict[tuple[str, ...], Mask]:
    if column.type != "json":
        return {}
    return {
        steps[len(place) :]: mask
        for steps, (_, mask) in masks.items()
        for place in places
        if len(steps) > len(place) and is_covered(steps, place)
    }


def _check_plan(table: Table, check: str | Check) -> CheckPlan:
    rule = check if isinstance(check, Check) else Check(check)
    try:
        comparison = read_comparison(rule.must)
    except ArithmeticSyntaxError as error:
        raise CompileError(f"{table.name}: {rule.must[:100]} {error}") from error
    return CheckPlan(comparison, rule.level == "note", rule.empty == 0)
