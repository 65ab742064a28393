"""Proposes a pipeline file for events: a text to begin with, and never to trust unread. Pure.

Every guess has a comment with its share, as `# 9,981 of 10,000`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from shared.pipelines.places import STAR, Location, Origin, PlaceError, pointer_of, read_place
from shared.pipelines.proposals.guessing import Guess, Member, guess_columns, share_text, slug, table_name
from shared.pipelines.proposals.observing import Observed, Steps, observe
from shared.pipelines.trials.expectations import bare, quote
from shared.pipelines.trials.samples import SampleEvent, values_at

EVENTS_MAX: Final = 10_000
"""More events than this are not looked at."""

TABLES_MAX: Final = 20
_TYPES_MAX: Final = 200
_TYPE_NAMES: Final = ("type", "event_type", "eventType", "event_name")
_ID_NAMES: Final = ("id", "event_id", "eventId")
_TIME_NAMES: Final = ("created", "created_at", "occurred_at", "timestamp", "time", "at", "changed_at", "updated_at")
_NUMBER: Final = "element_number"
_COMMENT_COLUMN: Final = 70
_KEY_TYPES: Final = frozenset({"text", "integer", "uuid"})
_KEY_NAMES: Final = ("id", "uuid", "reference", "number")


class InferError(ValueError):
    """Nothing can be proposed for these events; the message says why."""


class _Envelope(msgspec.Struct, frozen=True):
    """The members at the root by which events say what they are; None where there is none."""

    type: str | None = None
    id: str | None = None
    time: str | None = None


class _Group(msgspec.Struct, frozen=True):
    """Events that become one table: those of some types. `share` is a comment."""

    name: str
    types: tuple[str, ...]
    events: Sequence[SampleEvent]
    share: str


class _Proposed(msgspec.Struct, frozen=True):
    """A table that is proposed; `array` is empty where an event is a row."""

    group: _Group
    array: Steps
    guesses: tuple[Guess, ...]

    @property
    def columns(self) -> list[Guess]:
        """The guesses of which something is left."""
        return [guess for guess in self.guesses if guess.mask != "drop"]


def infer_pipeline(events: Sequence[SampleEvent], *, name: str, source: str) -> str:
    """Return the text of a pipeline file that takes these events. Raises InferError."""
    looked_at = events[:EVENTS_MAX]
    if not looked_at:
        raise InferError("there is no event to look at")
    if len({each.header is None for each in looked_at}) > 1:
        raise InferError("events of JSON and rows of CSV cannot be of one pipeline; name files of one kind")
    if looked_at[0].header is None and not all(isinstance(each.payload, dict) for each in looked_at):
        raise InferError("an event that is no JSON object has no members that could become columns")
    envelope = _envelope_of(looked_at)
    tables = _readable([table for group in _groups(looked_at, name, envelope) for table in _tables_of(group)])
    guesses = [guess for table in tables for guess in table.guesses]
    masks = {place: masking for table in tables for place, masking in _masks_of(table.array, table.guesses).items()}
    named = _named([table for table in tables if table.columns])
    if not named:
        raise InferError("no member of the events could become a column")
    parts = [
        _head(len(events), len(looked_at), name, source),
        _event_rules(envelope, looked_at),
        _csv_rules(looked_at),
        _mask_rules(masks),
        _money_rules(guesses),
        *(_table_text(each, table, envelope) for each, table in named.items()),
    ]
    return "\n".join(part for part in parts if part)


def _readable(tables: Sequence[_Proposed]) -> list[_Proposed]:
    """Return the tables without columns below a masked place: one event holds a text there, and another an object."""
    guesses = [guess for table in tables for guess in table.guesses]
    masked = {guess.member.steps for guess in guesses if guess.mask and not guess.member.csv}

    def is_below(steps: Steps) -> bool:
        return any(steps[:length] in masked for length in range(1, len(steps)))

    return [
        msgspec.structs.replace(table, guesses=tuple(each for each in table.guesses if not is_below(each.member.steps)))
        for table in tables
    ]


def _head(count: int, looked_at: int, name: str, source: str) -> str:
    counted = (
        ("1 event" if count == 1 else f"{count:,} events")
        if count == looked_at
        else f"the first {looked_at:,} of {count:,} events"
    )
    return (
        f"# Proposed from {counted}. Comments say how often a place was filled.\n# Read every line before you use it.\n"
        f"etlpay = 1\nname   = {quote(name)}\nsource = {quote(source)}\n"
    )


def _envelope_of(events: Sequence[SampleEvent]) -> _Envelope:
    if events[0].header is not None:
        return _Envelope()
    places = observe(events)

    def named(names: Sequence[str], accepts: Callable[[Observed], bool]) -> str | None:
        there = [(name, places[(name,)]) for name in names if (name,) in places]
        return next((name for name, each in there if each.filled == len(events) and accepts(each)), None)

    return _Envelope(
        type=named([name for name in _TYPE_NAMES if _are_types(name, events)], lambda each: each.kinds == {"text"}),
        id=named(_ID_NAMES, lambda each: each.kinds == {"text"} and each.unique),
        time=named(_TIME_NAMES, lambda each: _layout_of(each) is not None),
    )


def _are_types(name: str, events: Sequence[SampleEvent]) -> bool:
    values = (value for event in events for value in values_at(event, Location(Origin.ROOT, (name,))))
    return all(value and STAR not in str(value) for value in values)


def _layout_of(observed: Observed) -> str | None:
    """Return how a moment is written; None where it is none."""
    if observed.kinds == {"text"}:
        return "rfc3339" if "timestamp" in observed.forms else None
    return next((each for each in ("unix", "unix_ms") if each in observed.forms), None)


def _event_rules(envelope: _Envelope, events: Sequence[SampleEvent]) -> str:
    lines = [f"{key} = {quote(f'/{name}')}\n" for key, name in (("id", envelope.id), ("type", envelope.type)) if name]
    if envelope.time:
        layout = _layout_of(observe(events)[(envelope.time,)])
        lines.append(f"occurred_at = {{ from = {quote(f'/{envelope.time}')}, as = {quote(layout or 'rfc3339')} }}\n")
    return "[event]\n" + "".join(lines) if lines else ""


def _csv_rules(events: Sequence[SampleEvent]) -> str:
    if events[0].header is None:
        return ""
    decimal = 'decimal = ","\n' if _has_commas(observe(events)) else ""
    return '[csv]\nmissing = [""]               # add texts that mean no value, as "N/A"\n' + decimal


def _has_commas(places: Mapping[Steps, Observed]) -> bool:
    """Tell whether more columns of a CSV file hold decimal commas than decimal points."""
    filled = [each.forms for each in places.values() if each.filled]
    commas = sum("decimal comma" in forms and "decimal" not in forms for forms in filled)
    return commas > sum("decimal" in forms and "decimal comma" not in forms for forms in filled)


def _mask_rules(masks: Mapping[str, str]) -> str:
    if not masks:
        return ""
    lines = (f"{bare(place)} = {quote(masking)}\n" for place, masking in masks.items())
    return "[mask]                       # what looks like personal data by its name\n" + "".join(lines)


def _groups(events: Sequence[SampleEvent], name: str, envelope: _Envelope) -> list[_Group]:
    """Return the events by type; types that differ after the last point only are of one table."""
    if envelope.type is None:
        return [_Group(slug(name), (), events, f"{len(events):,} events")]
    place = Location(Origin.ROOT, (envelope.type,))
    by_type: dict[str, list[SampleEvent]] = {}
    for event in events:
        by_type.setdefault(str(values_at(event, place)[0]), []).append(event)
    if len(by_type) > _TYPES_MAX:
        raise InferError(f"/{envelope.type} has {len(by_type):,} values, which is too many to be types of events")
    families: dict[str, list[str]] = {}
    for each in by_type:
        families.setdefault(each.rpartition(".")[0] or each, []).append(each)
    groups: list[_Group] = []
    for family, types in list(families.items())[:TABLES_MAX]:
        taken = [event for each in types for event in by_type[each]]
        patterns = (*([family] if family in types else []), *([f"{family}.*"] if set(types) - {family} else []))
        groups.append(_Group(slug(family), patterns, taken, f"{len(taken):,} of {len(events):,} events"))
    return groups


def _tables_of(group: _Group) -> Iterator[_Proposed]:
    """Yield the table of some events, and the table of each array of objects in them."""
    places = observe(group.events)
    is_csv = group.events[0].header is not None
    if is_csv:
        other = "decimal" if _has_commas(places) else "decimal comma"
        for observed in places.values():
            observed.forms.discard(other)
    arrays = set() if is_csv else _arrays_of_objects(places)
    by_array: dict[Steps, list[Member]] = {(): [], **{array: [] for array in sorted(arrays)}}
    for steps, observed in places.items():
        array = () if is_csv else _array_of(steps)
        if array in by_array and steps != array and (*steps, STAR) not in arrays:
            by_array[array].append(_csv_member(steps, observed) if is_csv else _json_member(steps, array, observed))
    for array, found in by_array.items():
        total = places[array].counted if array else len(group.events)
        outer = by_array[()] if array else []
        if guesses := guess_columns(found, total, outer):
            yield _Proposed(group, array, tuple(guesses))


def _named(tables: Sequence[_Proposed]) -> dict[str, _Proposed]:
    """Return the tables by names of their own: the type, and the last member of the array."""
    named: dict[str, _Proposed] = {}
    for table in tables:
        members = [step for step in table.array if step != STAR]
        plain = table_name(table.group.name, *members[-1:])
        others = (f"{plain}_{number}" for number in range(2, len(tables) + 2))
        named[next(name for name in (plain, *others) if name not in named)] = table
    return named


def _arrays_of_objects(places: Mapping[Steps, Observed]) -> set[Steps]:
    """Return the arrays that hold nothing but objects, always; each becomes a table. Others are JSON values."""
    arrays: set[Steps] = set()
    for steps, observed in places.items():
        outer = _array_of(steps[:-1])
        if steps[-1] == STAR and observed.kinds == {"object"} and places[steps[:-1]].kinds == {"array"}:
            arrays |= {steps} if not outer or outer in arrays else set()
    return arrays


def _array_of(steps: Steps) -> Steps:
    """Return the array in whose elements a place is: its steps up to the last `*`."""
    stars = [position for position, step in enumerate(steps) if step == STAR]
    return steps[: stars[-1] + 1] if stars else ()


def _json_member(steps: Steps, array: Steps, observed: Observed) -> Member:
    if not array:
        return Member(pointer_of(*steps), steps, observed)
    inner = steps[len(array) :]
    return Member("." + pointer_of(*inner), steps, observed)


def _csv_member(steps: Steps, observed: Observed) -> Member:
    name, position = steps
    try:
        is_name = read_place(name) == Location(Origin.ELEMENT, (name,))
    except PlaceError:
        is_name = False
    return Member(position or (name if is_name else pointer_of(name)), steps, observed, csv=True)


def _masks_of(array: Steps, guesses: Sequence[Guess]) -> dict[str, str]:
    # A mask takes names only, so a column that is told by its number is left out.
    masked = [guess for guess in guesses if guess.mask and not guess.member.place.startswith("#")]
    return {pointer_of(*guess.member.steps) if array else guess.member.place: guess.mask or "" for guess in masked}


def _money_rules(guesses: Sequence[Guess]) -> str:
    units = {guess.units for guess in guesses if guess.units}
    if units != {"minor"}:
        return ""
    for guess in guesses:
        guess.units = None
    minor = 'units     = "minor"          # amounts are whole numbers: 1099 is 10.99\n'
    return f'[money]\n{minor}exponents = "iso"            # or a provider of payments\n'


def _table_text(name: str, table: _Proposed, envelope: _Envelope) -> str:
    group, array = table.group, table.array
    guesses = table.columns
    lines = ["[[table]]", f"name   = {quote(name)}"]
    if group.types:
        lines.append(f"types  = [{', '.join(map(quote, group.types))}]    # {group.share}")
    lines += [f"at     = {quote(pointer_of(*array))}"] if array else _mode_lines(guesses, envelope)
    width = max((len(guess.name) for guess in guesses), default=0)
    lines += ["", "[table.columns]"]
    if array and all(guess.name != _NUMBER for guess in guesses):
        lines.append(f'{_NUMBER.ljust(width)} = {{ from = "@index", type = "integer" }}')
    return "\n".join([*lines, *(_column_line(guess, width) for guess in guesses)]) + "\n"


def _column_line(guess: Guess, width: int) -> str:
    return f"{guess.name.ljust(width)} = {guess.render().ljust(_COMMENT_COLUMN - width)}    # {guess.comment}"


def _mode_lines(guesses: Sequence[Guess], envelope: _Envelope) -> list[str]:
    """Return `latest` where there are a time of the event and the id of what it is about, else nothing: `append`."""
    newest = next((each for each in guesses if envelope.time and each.member.steps == (envelope.time,)), None)
    required = [each for each in guesses if "required" in each.options and each.type in _KEY_TYPES]
    keys = [each for each in required if each.member.words in _KEY_NAMES]
    about = [each for each in keys if each.member.steps != (envelope.id,)]
    if newest is None or not about:
        return []
    key = min(about, key=lambda each: len(each.member.steps))
    share = share_text(key.member.observed, key.member.observed.counted)
    told = "unique" if key.member.observed.unique else "several events have the same"
    return [
        'mode   = "latest"           # a guess; without it each event keeps its own rows',
        f"key    = [{quote(key.name)}]    # {share}, {told}",
        f"newest = {quote(newest.name)}",
    ]
