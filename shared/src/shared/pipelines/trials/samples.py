"""Sample files as events: what they hold, what a test changes in them, and what a program makes of one. Pure.

`.json`: an array is one event for each element, anything else is one event. `.ndjson` and `.jsonl`: each line is one.
`.csv`: each row with its header is one. So does the file-watcher.
"""

import copy
import csv
import io
from collections.abc import Iterator, Mapping
from datetime import date, time
from decimal import Decimal
from typing import Any, Final

import msgspec

from shared.pipelines.places import STAR, Location, Origin, PlaceError, read_place
from shared.pipelines.program import Attributes, Made, Program

REMOVE: Final = "@remove"
NULL: Final = "@null"
_JSON: Final = msgspec.json.Decoder(float_hook=Decimal)
_DELIMITERS: Final = (",", ";", "\t")
_FIELD_CHARS_MAX: Final = 2**24


class SampleError(ValueError):
    """A sample cannot be read, or not be changed as a test asks; the message says why, without a value."""


class SampleEvent(msgspec.Struct, frozen=True):
    """An event of a sample: a JSON payload, or the fields of a CSV row with the names of their columns.

    `row`: the number of its first line, in a JSON array that of the element, from 1; None where the file is one event.
    """

    file: str
    payload: object = None
    header: tuple[str, ...] | None = None
    fields: tuple[str, ...] = ()
    row: int | None = None

    @property
    def label(self) -> str:
        """The file, and the line or element where it holds several."""
        unit = "element" if self.file.lower().endswith(".json") else "line"
        return self.file if self.row is None else f"{self.file} {unit} {self.row}"


def own_id_of(event: SampleEvent) -> str:
    """Return the id that a row of a file has in its column or member `id`, as the file-watcher reads it; or empty."""
    if event.header is None:
        value = event.payload.get("id") if isinstance(event.payload, dict) else None
        return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    values = {name.strip().casefold(): value for name, value in zip(event.header, event.fields, strict=True)}
    return (values | dict(zip(event.header, event.fields, strict=True))).get("id", "")


def read_events(name: str, data: bytes, *, delimiter: str | None = None) -> tuple[SampleEvent, ...]:
    """Return the events of a sample, by the end of its name; at least one. Raises SampleError."""
    ending = name.rpartition(".")[2].lower()
    if ending == "csv":
        events = tuple(_csv_events(name, data, delimiter))
    elif ending in {"ndjson", "jsonl"}:
        lines = enumerate(data.split(b"\n"), 1)
        events = tuple(SampleEvent(name, _decode(line, f"{name} line {n}"), row=n) for n, line in lines if line.strip())
    elif ending == "json":
        events = tuple(_json_events(name, _decode(data, name)))
    else:
        raise SampleError(f"{name}: is no sample; its name ends in .json, .ndjson or .csv")
    if not events:
        raise SampleError(f"{name}: holds no event")
    return events


def run_sample(program: Program, event: SampleEvent, about: Attributes) -> Made:
    """Return what the program makes of a sample."""
    if event.header is None:
        return program.run(event.payload, about)
    return program.run_row(event.header, event.fields, about)


def change_event(event: SampleEvent, change: Mapping[str, Any]) -> SampleEvent:
    """Return the event with other values at some places. `@remove` takes a member away, `@null` is a JSON null.

    Raises SampleError.
    """
    if not change:
        return event
    if event.header is not None:
        return _change_row(event, change)
    payload = copy.deepcopy(event.payload)
    for place, value in change.items():
        if isinstance(value, date | time):
            raise SampleError(f"change: {place}: JSON has no dates; write the value as text")
        steps = _location(place).steps
        if not steps or STAR in steps:
            raise SampleError(f"change: {place}: is not one place of a payload; write it as /a/b/0")
        _put(payload, steps, None if value == NULL else value, place)
    return msgspec.structs.replace(event, payload=payload)


def values_at(event: SampleEvent, place: Location) -> list[object]:
    """Return the values at a place of a sample: none, one, or several where `*` goes through elements."""
    if event.header is not None:
        position = _column(event.header, place)
        return [] if position is None else [event.fields[position]]
    return [] if place.origin is Origin.ATTRIBUTE else list(_under(event.payload, place.steps))


def _json_events(name: str, payload: object) -> Iterator[SampleEvent]:
    if isinstance(payload, list):
        yield from (SampleEvent(name, element, row=number) for number, element in enumerate(payload, 1))
    else:
        yield SampleEvent(name, payload)


def _decode(data: bytes, label: str) -> object:
    try:
        return _JSON.decode(data)
    except msgspec.DecodeError as error:
        # msgspec's message names a position and never a value.
        raise SampleError(f"{label}: is no JSON: {error}") from None
    except UnicodeDecodeError as error:
        raise SampleError(f"{label}: is not UTF-8 from byte {error.start}") from None
    except RecursionError:
        raise SampleError(f"{label}: is nested too deeply") from None


def _csv_events(name: str, data: bytes, delimiter: str | None) -> Iterator[SampleEvent]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SampleError(f"{name}: is not UTF-8 from byte {error.start}") from None
    # A field may be as long as the file; the limit is one for the whole process.
    csv.field_size_limit(_FIELD_CHARS_MAX)
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter or sniff_delimiter(text), strict=True)
        header = tuple(next(rows, ()))
        number = rows.line_num + 1
        for fields in rows:
            if fields and len(fields) != len(header):
                raise SampleError(f"{name} line {number}: has {len(fields)} fields, the header has {len(header)}")
            if fields:
                yield SampleEvent(name, header=header, fields=tuple(fields), row=number)
            number = rows.line_num + 1
    except csv.Error as error:
        raise SampleError(f"{name}: is no CSV: {error}") from None


def sniff_delimiter(text: str) -> str:
    """Return the delimiter that cuts the first line into most fields: a comma, a semicolon or a tab."""
    first = text.partition("\n")[0]
    return max(_DELIMITERS, key=lambda each: len(next(csv.reader([first], delimiter=each), ())))


def _change_row(event: SampleEvent, change: Mapping[str, Any]) -> SampleEvent:
    header, fields = list(event.header or ()), list(event.fields)
    for place, value in change.items():
        position = _column(tuple(header), _location(place))
        if position is None:
            raise SampleError(f"change: {place}: {event.file} has no such column")
        if value == REMOVE:
            del header[position], fields[position]
        elif isinstance(value, str):
            fields[position] = value
        else:
            raise SampleError(f"change: {place}: a CSV file holds text; write the value as text")
    return msgspec.structs.replace(event, header=tuple(header), fields=tuple(fields))


def _column(header: tuple[str, ...], place: Location) -> int | None:
    if place.origin is Origin.POSITION:
        return place.number - 1 if place.number <= len(header) else None
    name = place.steps[0] if len(place.steps) == 1 else None
    return header.index(name) if name in header else None


def _location(place: str) -> Location:
    try:
        return read_place(place)
    except PlaceError as error:
        raise SampleError(f"change: {place}: {error}") from None


def _put(payload: object, steps: tuple[str, ...], value: object, place: str) -> None:
    *parents, last = steps
    holder = payload
    for step in parents:
        holder = _member(holder, step)
    if isinstance(holder, dict) and (value != REMOVE or last in holder):
        if value == REMOVE:
            del holder[last]
        else:
            holder[last] = value
        return
    if isinstance(holder, list) and last.isdecimal() and int(last) <= len(holder) - (value == REMOVE):
        # The number after the last element adds one.
        holder[int(last) : int(last) + 1] = [] if value == REMOVE else [value]
        return
    raise SampleError(f"change: {place}: the sample has no such place")


def _member(holder: object, step: str) -> object:
    if isinstance(holder, dict):
        return holder.get(step)
    if isinstance(holder, list) and step.isdecimal() and int(step) < len(holder):
        return holder[int(step)]
    return None


def _under(value: object, steps: tuple[str, ...]) -> Iterator[object]:
    if not steps:
        yield value
    elif steps[0] == STAR:
        elements = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        for element in elements:
            yield from _under(element, steps[1:])
    elif (member := _member(value, steps[0])) is not None:
        yield from _under(member, steps[1:])
