"""Lint what holds for a whole pipeline: sources, what an event says of itself, masks, personal data. Pure."""

from collections.abc import Iterator

from shared.contracts.event import source_problem
from shared.pipelines.document.problems import Steps
from shared.pipelines.linting.issues import Issue, TableScope, location_of, repeated, scopes_of
from shared.pipelines.linting.places import absolute_steps, any_places_issues, one_place_issues, value_places
from shared.pipelines.linting.times import time_issues
from shared.pipelines.model import Column, Join, Masking, Moment, Pipeline
from shared.pipelines.places import STAR, Origin


def source_issues(pipeline: Pipeline) -> Iterator[Issue]:
    """Yield what is wrong with the sources."""
    if not pipeline.sources:
        yield Issue(("source",), "is an empty list; name a source")
    yield from repeated(("source",), pipeline.sources)
    for number, source in enumerate(pipeline.sources):
        steps: Steps = ("source",) if isinstance(pipeline.source, str) else ("source", number)
        name = source.removesuffix(STAR)
        if STAR in name:
            yield Issue(steps, f"{source[:80]!r} has a * that is not its end; a beginning of names ends in one *")
        elif source != STAR and (detail := source_problem(name)):
            yield Issue(steps, detail)


def event_issues(pipeline: Pipeline) -> Iterator[Issue]:
    """Yield what is wrong with what an event says of itself."""
    event = pipeline.event
    steps: Steps = ("event",)
    moment = event.occurred_at
    if isinstance(event.id, Join):
        if not event.id.join:
            yield Issue((*steps, "id", "join"), "is an empty list; name places")
        for number, text in enumerate(event.id.join):
            yield from _own_place_issues((*steps, "id", "join", number), text, "@id")
    elif event.id is not None:
        yield from _own_place_issues((*steps, "id"), event.id, "@id")
    if event.type is not None:
        yield from _own_place_issues((*steps, "type"), event.type, "@type")
    if isinstance(moment, Moment):
        yield from _own_place_issues((*steps, "occurred_at", "from"), moment.from_, "@occurred_at")
        yield from time_issues((*steps, "occurred_at"), moment.as_, moment.zone, day=False)
    elif moment is not None:
        yield from _own_place_issues((*steps, "occurred_at"), moment, "@occurred_at")
    for number, text in enumerate(event.ignore):
        yield from any_places_issues((*steps, "ignore", number), text)


def _own_place_issues(steps: Steps, text: str, itself: str) -> Iterator[Issue]:
    yield from one_place_issues(steps, text)
    if text == itself:
        yield Issue(steps, f"{text} is what this says; name a place of the payload")


def personal_issues(pipeline: Pipeline) -> Iterator[Issue]:
    """Yield what is wrong with the places of personal data."""
    personal = pipeline.personal
    if personal is None:
        return
    yield from one_place_issues(("personal", "subject"), personal.subject)
    if not personal.key:
        yield Issue(("personal", "key"), "is empty; name the key by which persons are kept apart")
    if not personal.places:
        yield Issue(("personal", "places"), "is empty; name what is blanked when a person is erased", "warning")
    for number, text in enumerate(personal.places):
        yield from any_places_issues(("personal", "places", number), text)


def mask_issues(pipeline: Pipeline) -> Iterator[Issue]:
    """Yield what is wrong with the masks, and columns that cannot hold what a mask leaves."""
    for text in pipeline.mask:
        yield from any_places_issues(("mask", text), text)
        if _is_position(text):
            yield Issue(("mask", text), f"{text} is a position; name a member, or a column by its name")
    for scope in scopes_of(pipeline):
        for name, column in scope.table.columns.items():
            for within, place in value_places(name, column):
                steps = (*scope.steps, "columns", name, *within)
                for masked, masking in pipeline.mask.items():
                    if _covers(absolute_steps(masked, None), absolute_steps(place, scope.at)):
                        yield from _masked_column_issues(steps, scope, name, column, masking)


def _is_position(text: str) -> bool:
    location = location_of(text)
    return location is not None and location.origin is Origin.POSITION


def _covers(masked: tuple[str, ...] | None, read: tuple[str, ...] | None) -> bool:
    """Tell whether what is read stands at a masked place, or below it."""
    if masked is None or read is None or len(masked) > len(read):
        return False
    return all(step in {other, STAR} or other == STAR for step, other in zip(masked, read, strict=False))


def _masked_column_issues(
    steps: Steps, scope: TableScope, name: str, column: Column, masking: Masking
) -> Iterator[Issue]:
    table = scope.table
    needed = column.required or name in {*table.key, table.newest}
    if masking == "drop" or column.type == "json":
        detail = f"{name} reads a masked place, of which nothing is left"
        yield Issue(steps, detail, "error" if needed else "warning")
    elif column.type != "text":
        yield Issue(steps, f"{name} reads a masked place, of which a text is left; {column.type} is none")
    elif masking != "hmac" and name in table.key:
        yield Issue(steps, f"{name} reads a masked place, and different values become one key", "warning")
