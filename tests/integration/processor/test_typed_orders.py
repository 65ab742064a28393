"""Six events of one object end in the same row, in whatever order, cut and channel they come."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final

import asyncpg
import msgspec
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from processor.ledger.database import Connections
from processor.ledger.store import Store
from processor.programs.active import ActiveSet
from processor.settings import ProcessorSettings
from processor.stages.transform import transform
from shared.contracts.csv_row import CSV_ROW
from shared.contracts.event import Channel, Envelope, identify, now
from shared.contracts.media_types import JSON
from support.registered import clear
from support.servers import Servers
from support.typed import active_pipeline, create_tables

# Places without a pointer name members of JSON and columns of CSV alike.
PIPELINE: Final = active_pipeline("""
etlpay = 1
name   = "objects"
source = "objects"

[[table]]
name   = "objects"
mode   = "latest"
key    = ["id"]
newest = "at"
rank   = "status"
gone   = { "gone" = "yes" }
index  = [["amount"]]

[table.columns]
id       = "id"
at       = { type = "integer" }
status   = { required = true, values = ["open", "paid", "back"] }
amount   = { type = "money", currency = "currency", required = true }
currency = { type = "currency" }
file     = "@file"

[[table]]
name = "object_states"
like = "objects"
""")
COLUMNS: Final = ("id", "at", "status", "amount", "currency", "gone")
GONE: Final = "gone"
RANKS: Final = {"open": 0, "paid": 1, "back": 2, GONE: -1}
STATES: Final = tuple(itertools.product((1, 2, 3), RANKS))
"""Moment and status of an event. A tombstone has no status."""
WAYS: Final = ("http", "grpc", "lines", "csv", "queue", "http")
ORDERS: Final = tuple(itertools.permutations(range(6)))

State = tuple[int, str]


def envelope(key: str, place: int, state: State, way: str) -> Envelope:
    """Return the event at a place of an object's history, as the edge service of a way makes it."""
    at, status = state
    is_gone = status == GONE
    values = (key, at, None if is_gone else status, f"{place + 1}.00", "EUR", "yes" if is_gone else None)
    members = {name: value for name, value in zip(COLUMNS, values, strict=True) if value is not None}
    if way == "csv":
        cells = ",".join("" if value is None else str(value) for value in values)
        body, content_type = f"{','.join(COLUMNS)}\n{cells}".encode(), CSV_ROW
    else:
        body, content_type = msgspec.json.encode(members), JSON
    is_file = way in {"lines", "csv"}
    idempotency_key = f"{key}/{place}"
    return Envelope(
        event_id=identify("objects", idempotency_key),
        source="objects",
        channel=Channel.FILE if is_file else Channel[way.upper()],
        received_at=now(),
        body=body,
        idempotency_key=idempotency_key,
        content_type=content_type,
        origin=f"states.{way}:{place + 1}" if is_file else "",
    )


def end_of(states: Sequence[State], ways: Sequence[str]) -> tuple[Any, ...]:
    """Return the columns of the row that counts: of the highest moment, and of these the highest rank."""
    place, (at, status) = max(enumerate(states), key=lambda each: (each[1][0], RANKS[each[1][1]]))
    if status == GONE:
        return at, None, None, None, -1, True
    file = f"states.{ways[place]}" if ways[place] in {"lines", "csv"} else None
    return at, status, Decimal(place + 1), file, RANKS[status], False


class Ledger:
    """A store and the owner's connection, on tables of the pipeline that are empty."""

    def __init__(self, ledger: Servers, runner: asyncio.Runner, settings: ProcessorSettings) -> None:
        self._run = runner.run
        self._owner = runner.run(asyncpg.connect(ledger.owner_url))
        runner.run(clear(self._owner))
        runner.run(create_tables(self._owner, PIPELINE))
        self._connections = runner.run(Connections.open(settings, name="orders"))
        self._stores = {number: Store(self._connections, copy_events_min=number) for number in (1, 1_000)}

    def write(self, copy_events_min: int, events: Sequence[Envelope]) -> None:
        """Write a batch, by COPY from so many events on."""
        pipelines = ActiveSet([PIPELINE])
        processed = [transform(event, pipelines) for event in events]
        self._run(self._stores[copy_events_min].write(processed, processed_at=now()))

    def rows(self, table: str, columns: str, example: str) -> list[tuple[Any, ...]]:
        """Return the rows of an example."""
        query = f"SELECT {columns} FROM rows.{table}_1 WHERE starts_with(id, $1)"  # noqa: S608 - names of ours
        return [tuple(row) for row in self._run(self._owner.fetch(query, example))]

    def close(self) -> None:
        """Leave nothing."""
        self._run(clear(self._owner))
        self._run(self._owner.close())
        self._run(self._connections.close())


@contextmanager
def opened(servers: Servers, settings: ProcessorSettings) -> Iterator[Ledger]:
    with asyncio.Runner() as runner:
        ledger = Ledger(servers, runner, settings)
        try:
            yield ledger
        finally:
            ledger.close()


def test_every_order_of_six_events_of_an_object_ends_in_the_same_row(
    ledger: Servers, processor_settings: ProcessorSettings
) -> None:
    """Each of the 720 orders is that of another object; the first so many events of all of them are one batch."""
    examples = itertools.count()
    with opened(ledger, processor_settings) as stored:
        # A failing example is as good as a smaller one here, which would take minutes to find.
        @settings(max_examples=10, phases=(Phase.explicit, Phase.generate))
        @given(
            states=st.lists(st.sampled_from(STATES), min_size=6, max_size=6, unique=True),
            ways=st.permutations(WAYS),
            cuts=st.sets(st.integers(1, 5)),
            copy_events_min=st.sampled_from([1, 1_000]),
        )
        def check(states: list[State], ways: list[str], cuts: set[int], copy_events_min: int) -> None:
            example = f"{next(examples)}-"
            histories = [
                [envelope(f"{example}{number}", place, states[place], ways[place]) for place in order]
                for number, order in enumerate(ORDERS)
            ]
            for start, end in itertools.pairwise((0, *sorted(cuts), 6)):
                stored.write(copy_events_min, [event for history in histories for event in history[start:end]])

            ends = Counter(stored.rows("objects", "at, status, amount, file, _rank, _gone", example))
            assert ends == {end_of(states, ways): len(ORDERS)}
            assert len(stored.rows("object_states", "id", example)) == 6 * len(ORDERS)

        check()
