"""Runs the tests of a pipeline: whole events in, whole rows out, without a database. Pure.

Beside what a test states, it always holds that a replay makes the same rows, that no value is a float, and that nothing
of a masked place is in a row.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import ClassVar, Final

import msgspec

from shared.pipelines.document.problems import ReadFile
from shared.pipelines.model import Pipeline
from shared.pipelines.places import PlaceError, read_place
from shared.pipelines.program import Attributes, Made, Program, RowProblem
from shared.pipelines.trials.expectations import ExpectedProblem, KnownOfEvent, PipelineTest, TextRow, TextRows
from shared.pipelines.trials.samples import (
    SampleError,
    SampleEvent,
    change_event,
    own_id_of,
    read_events,
    run_sample,
    values_at,
)
from shared.pipelines.trials.shown import MadeOf, as_text, shown_rows
from shared.pipelines.values.texts import text_of

ORDERED_EVENTS_MAX: Final = 6
"""How many events `order = "any"` may have: 6 have 720 orders."""

MASKED_TEXT_MIN: Final = 5
"""Shorter masked texts are not looked for in rows: `DE` stands in many places by chance."""

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""When the first event of a test is received; each later event a second later, each later file an hour later."""

_UNSTATED: Final = KnownOfEvent()


class TestResult(msgspec.Struct, frozen=True):
    """What came of one test. `problems`: what is not as stated; none where it holds.

    `rows`: what the views show. `failed`: the problems for which events made no rows. `notes`: what was odd.
    `pending`: the test states nothing yet, and nothing else is wrong.
    """

    __test__: ClassVar[bool] = False

    name: str
    problems: tuple[str, ...] = ()
    rows: TextRows = {}
    failed: tuple[RowProblem, ...] = ()
    notes: tuple[RowProblem, ...] = ()
    pending: bool = False


class _Arrived(msgspec.Struct, frozen=True):
    sequence: int
    event: SampleEvent
    about: Attributes


def run_tests(
    pipeline: Pipeline, program: Program, tests: Iterable[PipelineTest], read: ReadFile
) -> tuple[TestResult, ...]:
    """Return the result of each test. `read` gives the samples."""
    return tuple(run_test(pipeline, program, test, read) for test in tests)


def run_test(pipeline: Pipeline, program: Program, test: PipelineTest, read: ReadFile) -> TestResult:
    """Return the result of one test."""
    try:
        arrived = _arrive(pipeline, test, read)
    except SampleError as error:
        return TestResult(test.name, problems=(str(error),))
    events = _process(program, arrived)
    rows = as_text(pipeline.table, shown_rows(pipeline.table, events))
    failed = tuple(problem for event in events for problem in event.made.problems)
    notes = tuple(note for event in events for note in event.made.notes)
    always = (
        *(_order_problems(pipeline, program, arrived) if test.order == "any" else ()),
        *_replay_problems(pipeline, program, arrived, events),
        *_value_problems(pipeline, arrived, events),
    )
    stated = (
        *_row_differences(test.rows or {}, rows),
        *_problem_differences("fails", test.fails, failed),
        *(() if test.notes is None else _problem_differences("notes", test.notes, notes)),
    )
    if test.states_nothing:
        stated = ("states neither rows nor fails nor notes; `--update` writes what came out",)
    return TestResult(test.name, (*stated, *always), rows, failed, notes, test.states_nothing and not always)


def coverage_warnings(pipeline: Pipeline, results: Iterable[TestResult]) -> tuple[str, ...]:
    """Return which tables no test reached, and which columns no row of any test filled."""
    listed = list(results)
    warnings: list[str] = []
    for table in pipeline.table:
        rows = [row for result in listed for row in result.rows.get(table.name, ())]
        if not rows:
            warnings.append(f"{table.name}: no test makes a row of it")
            continue
        warnings += (
            f"{table.name}.{name}: filled in 0 of {len(rows)} rows; is its place right?"
            for name in table.columns
            if all(row[name] == text_of(None) for row in rows)
        )
    return tuple(warnings)


def attributes_of(
    pipeline: Pipeline, event: SampleEvent, known: KnownOfEvent = _UNSTATED, *, sequence: int = 0, file: int = 0
) -> Attributes:
    """Return what is known of a sample beside its payload; what is not stated is invented, always the same."""
    is_file = event.row is not None
    file_at = known.file_at or EPOCH + timedelta(hours=file)
    return Attributes(
        source=known.source or pipeline.sources[0].replace("*", "example"),
        received_at=known.received_at or file_at + timedelta(seconds=sequence),
        id=known.id or (own_id_of(event) if is_file else "") or f"example-{sequence + 1}",
        type=known.type or "",
        channel=known.channel or ("file" if is_file else "http"),
        row=event.row,
        file=known.file or (event.file.rpartition("/")[2] if is_file else None),
        file_at=file_at if is_file or known.file_at else None,
        occurred_at=known.occurred_at,
    )


def _arrive(pipeline: Pipeline, test: PipelineTest, read: ReadFile) -> list[_Arrived]:
    taken: list[tuple[int, SampleEvent]] = []
    for file, name in enumerate(test.samples):
        data = read(name)
        if data is None:
            raise SampleError(f"{name}: there is no such sample")
        taken += ((file, event) for event in read_events(name, data, delimiter=test.delimiter))
    if wrong := [number for number in test.pick if not 1 <= number <= len(taken)]:
        raise SampleError(f"pick: there is no event {wrong[0]}; the samples hold {len(taken)}")
    if test.pick:
        taken = [taken[number - 1] for number in test.pick]
    if test.order == "any" and len(taken) > ORDERED_EVENTS_MAX:
        raise SampleError(f'order = "any": takes at most {ORDERED_EVENTS_MAX} events, not {len(taken)}; pick some')
    return [
        _Arrived(number, changed, attributes_of(pipeline, changed, test.known, sequence=number, file=file))
        for number, (file, event) in enumerate(taken)
        for changed in [change_event(event, test.change)]
    ]


def _process(program: Program, arrived: Sequence[_Arrived]) -> list[MadeOf]:
    return [MadeOf(each.sequence, run_sample(program, each.event, each.about)) for each in arrived]


def _row_differences(expected: Mapping[str, Sequence[Mapping[str, str | int | bool]]], rows: TextRows) -> Iterator[str]:
    for table, wanted in expected.items():
        if table not in rows:
            yield f"rows.{table}: the pipeline has no such table"
            continue
        there = rows[table]
        if len(there) != len(wanted):
            yield f"{table}: number of rows: expected {len(wanted)}, is {len(there)}"
        for number, (want, row) in enumerate(zip(wanted, there, strict=False), 1):
            for column, value in want.items():
                if difference := _cell_difference(column, text_of(value), row):
                    yield f"{table} row {number}: {difference}"


def _cell_difference(column: str, wanted: str, row: TextRow) -> str | None:
    if column not in row:
        return f"{column}: there is no such column"
    return None if row[column] == wanted else f"{column}: expected {wanted}, is {row[column]}"


def _problem_differences(key: str, expected: Sequence[ExpectedProblem], there: Sequence[RowProblem]) -> Iterator[str]:
    left = list(there)
    for want in expected:
        same = next((each for each in left if _is_expected(want, each)), None)
        if same is None:
            cause = f" ({want.cause})" if want.cause else ""
            yield f"{key}: {want.at or '(the event)'}: {want.code}{cause} is expected, and did not come"
        else:
            left.remove(same)
    for each in left:
        yield f"{key}: {each.pointer or '(the event)'}: {each.code} ({each.cause}) came unexpected: {each.detail}"


def _is_expected(want: ExpectedProblem, each: RowProblem) -> bool:
    return (want.at, want.code) == (each.pointer, each.code) and want.cause in {None, each.cause}


def _order_problems(pipeline: Pipeline, program: Program, arrived: Sequence[_Arrived]) -> Iterator[str]:
    """Yield where another order of arrival makes other rows. An event keeps its moments, not its number."""
    first: dict[str, list[tuple[str, ...]]] = {}
    for order in itertools.permutations(arrived):
        events = [MadeOf(number, run_sample(program, each.event, each.about)) for number, each in enumerate(order)]
        rows = {
            table: sorted(tuple(row.values()) for row in listed)
            for table, listed in as_text(pipeline.table, shown_rows(pipeline.table, events)).items()
        }
        first = first or rows
        for table, listed in rows.items():
            if listed != first[table]:
                yield f"{table}: the order {[each.sequence + 1 for each in order]} of the events makes other rows"
                return


def _replay_problems(
    pipeline: Pipeline, program: Program, arrived: Sequence[_Arrived], events: Sequence[MadeOf]
) -> Iterator[str]:
    again = _process(program, arrived)
    for each, before, after in zip(arrived, events, again, strict=True):
        if before != after:
            yield f"{each.event.label}: a replay makes other rows"
    if shown_rows(pipeline.table, [*events, *again]) != shown_rows(pipeline.table, events):
        yield "events that are replayed change the rows"


def _value_problems(pipeline: Pipeline, arrived: Sequence[_Arrived], events: Sequence[MadeOf]) -> Iterator[str]:
    for each, (_, made) in zip(arrived, events, strict=True):
        masked = dict(_masked_texts(pipeline, each.event))
        for name, value in _cells(pipeline, made):
            if isinstance(value, float):
                yield f"{name}: is a float"
            text = text_of(value)  # type: ignore[arg-type] # a value of a column, or a float that was told
            for place in {place for secret, place in masked.items() if secret in text}:
                yield f"{name}: holds the text at {place}, which is masked"


def _cells(pipeline: Pipeline, made: Made) -> Iterator[tuple[str, object]]:
    for row in made.rows:
        table = pipeline.table[row.table]
        for name, value in zip(table.columns, row.values, strict=True):
            yield f"{table.name}.{name}", value


def _masked_texts(pipeline: Pipeline, event: SampleEvent) -> Iterator[tuple[str, str]]:
    for place in pipeline.mask:
        try:
            values = values_at(event, read_place(place))
        except PlaceError:
            continue
        for text in _texts_in(values):
            if len(text) >= MASKED_TEXT_MIN:
                yield text, place


def _texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, int | Decimal) and not isinstance(value, bool):
        yield str(value)
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(each)
