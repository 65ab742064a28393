"""The ledger as its owner sees it: what arrived, the limit that COPY sets, and a quick way to fill it."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from benchmarks.payloads import CSV_SIZE, HOT_KEY_SQL, KEY_HOLE, NUMBER_DIGITS, STORED, TEMPLATES

_POLL_SECONDS = 0.02
_CHUNK_EVENTS = 10_000
_SENT_BYTES = 512 * 1024
# As the processor takes its ids: in blocks of a thousand. Returns the number of the last block.
_BLOCK_IDS = 1_000
_RESERVE = "SELECT setval('ledger_id_blocks', nextval('ledger_id_blocks') + $1)"
# So many of the last ids may be in batches that are not committed yet.
_MISSING_MAX = 5_000
_SPAN = """
SELECT (SELECT id FROM processed_records WHERE source_id = source.id
        ORDER BY processed_at, id LIMIT 1) AS first,
       (SELECT id FROM processed_records WHERE source_id = source.id
        ORDER BY processed_at DESC, id DESC LIMIT 1) AS newest
FROM (SELECT max(id) AS id FROM ingestion_sources WHERE name = $1) AS source
"""
_RAW_COLUMNS = (
    "id", "event_id", "source_id", "idempotency_key", "channel", "received_at", "stored_at", "content_type", "body"
)  # fmt: skip
_RECORD_COLUMNS = ("id", "raw_event_id", "source_id", "channel", "status", "attempt", "processed_at")
_RAW_ROWS = """
SELECT ({offset} + n)::bigint, gen_random_uuid(), {source_id}, 'evt_' || lpad(n::text, {digits}, '0'), 3::smallint,
       now(), now(), 'application/json',
       convert_to(replace({template}, repeat('#', {digits}), lpad(n::text, {digits}, '0')), 'UTF8')
FROM generate_series({first}, {last}) AS n
"""
_RECORD_ROWS = """
SELECT ({offset} + n)::bigint, ({offset} + n)::bigint, {source_id}, 3::smallint, 1::smallint, 1::smallint, now()
FROM generate_series({first}, {last}) AS n
"""


@dataclass(frozen=True)
class Found:
    """What the ledger holds of a source."""

    events: int
    distinct: int
    successes: int
    exact: int
    """Events whose key is one of those sent and whose body is, byte for byte, the one sent under that key."""


@dataclass(frozen=True)
class Place:
    """Where in the ledger an event is."""

    id: int
    event_id: UUID
    source: str
    processed_at: datetime


class Ledger:
    """One connection as the owner."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        """Use `connect` instead."""
        self._connection = connection

    @classmethod
    async def connect(cls, url: str) -> "Ledger":
        """Connect as the owner of the ledger."""
        return cls(await asyncpg.connect(url, timeout=10, statement_cache_size=0))

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def count(self, source: str) -> int:
        """Return how many events of a source have a record."""
        query = (
            "SELECT count(*) FROM processed_records"
            " WHERE source_id = (SELECT id FROM ingestion_sources WHERE name = $1)"
        )
        return int(await self._connection.fetchval(query, source))

    async def wait_for(self, events: int, source: str, *, seconds_max: float) -> float:
        """Return the time (perf_counter) at which that many events of a source were queryable. Raises TimeoutError."""
        deadline = time.perf_counter() + seconds_max
        while time.perf_counter() < deadline:
            # Counting a million rows takes from PostgreSQL what is measured: so only where they may all be there.
            if await self._span(source) >= events - _MISSING_MAX and await self.count(source) >= events:
                return time.perf_counter()
            await asyncio.sleep(_POLL_SECONDS)
        raise TimeoutError(f"{await self.count(source)} of {events} events arrived")

    async def _span(self, source: str) -> int:
        """Return how far the ids of a source's first and newest records are apart; two looks into an index."""
        row = await self._connection.fetchrow(_SPAN, source)
        return 0 if row["first"] is None else int(row["newest"] - row["first"])

    async def find(self, source: str, size: str, highest: int) -> Found:
        """Return what came of `source`, whose payloads are of `size` and numbered from 1 to `highest`."""
        number = "substr(convert_from(body, 'UTF8')::jsonb ->> 'id', 5)"
        filled = f"replace($2, repeat('#', {NUMBER_DIGITS}), {number})"
        if KEY_HOLE in STORED[size]:
            key = f"(SELECT {HOT_KEY_SQL} FROM (VALUES (({number})::int)) AS numbers (n))"  # noqa: S608 - constants
            filled = f"replace({filled}, '{KEY_HOLE}', lpad(({key})::text, {NUMBER_DIGITS}, '0'))"
        return await self._find(source, STORED[size], highest, number, f"convert_to({filled}, 'UTF8')")

    async def find_rows(self, source: str, highest: int) -> Found:
        """As `find`, of the rows of a CSV file."""
        number = "substr(idempotency_key, 5)"
        sent = f"convert_to(replace($2, repeat('#', {NUMBER_DIGITS}), {number}), 'UTF8')"
        return await self._find(source, STORED[CSV_SIZE], highest, number, sent)

    async def _find(self, source: str, template: str, highest: int, number: str, sent: str) -> Found:
        query = f"""
            SELECT count(*) AS events, count(DISTINCT {number}) AS distinct,
                   count(*) FILTER (WHERE status = 1) AS successes,
                   count(*) FILTER (WHERE {number} ~ '^[0-9]{{{NUMBER_DIGITS}}}$' AND {number}::int BETWEEN 1 AND $3
                                          AND body = {sent}) AS exact
            FROM processed_records AS record JOIN raw_events AS raw ON raw.id = record.raw_event_id
            WHERE record.source_id = (SELECT id FROM ingestion_sources WHERE name = $1)
              AND raw.source_id = record.source_id
        """  # noqa: S608 - made of the constants above
        async with self._connection.transaction():
            # Reading a ledger of many millions whole would take the memory that the next measurement's pages are in.
            await self._connection.execute("SET LOCAL enable_seqscan = off")
            row = await self._connection.fetchrow(query, source, template, highest)
        return Found(**dict(row))

    async def copy_limit(self, size: str, events: int) -> float:
        """Return how many events a second COPY writes into the two tables: rows ready, a commit every 10,000."""
        source_id = await self._source_id(f"limit-{size}".replace(" ", "-"))
        portions = [
            await self._portion(size, source_id, min(_CHUNK_EVENTS, events - start))
            for start in range(0, events, _CHUNK_EVENTS)
        ]
        began = time.perf_counter()
        for raw, records in portions:
            async with self._connection.transaction():
                await self._connection.copy_to_table(
                    "raw_events", source=_sent(raw), columns=_RAW_COLUMNS, format="binary"
                )
                await self._connection.copy_to_table(
                    "processed_records", source=_sent(records), columns=_RECORD_COLUMNS, format="binary"
                )
        return events / (time.perf_counter() - began)

    async def insert_latency_ms(self, times: int) -> list[float]:
        """Return the latencies of one bare INSERT with its commit each, over one connection."""
        source_id = await self._source_id("limit-insert")
        insert = await self._connection.prepare(
            "INSERT INTO raw_events (id, event_id, source_id, channel, received_at, content_type, body)"
            " VALUES ($3, gen_random_uuid(), $1, 1, now(), 'application/json', $2)"
        )
        words = await self._words("850", source_id, 1, times)
        body = TEMPLATES["850"].encode()
        latencies = []
        for number in range(1, times + 1):
            began = time.perf_counter()
            await insert.fetch(source_id, body, int(str(words["offset"])) + number)
            latencies.append((time.perf_counter() - began) * 1000)
        return latencies

    async def fill(self, events: int) -> None:
        """Add events with their records quickly, on the server's side."""
        source_id = await self._source_id("growth")
        step = 500_000
        for start in range(0, events, step):
            last = min(start + step, events)
            words = await self._words("850", source_id, start + 1, last)
            columns, records = ", ".join(_RAW_COLUMNS), ", ".join(_RECORD_COLUMNS)
            async with self._connection.transaction():
                await self._connection.execute(
                    f"INSERT INTO raw_events ({columns}) {_RAW_ROWS.format_map(words)}", timeout=None
                )
                await self._connection.execute(
                    f"INSERT INTO processed_records ({records}) {_RECORD_ROWS.format_map(words)}", timeout=None
                )

    async def events(self) -> int:
        """Return how many events are stored."""
        return int(await self._connection.fetchval("SELECT count(*) FROM raw_events", timeout=None))

    async def places(self, number: int, chance: random.Random) -> list[Place]:
        """Return events from all over the ledger."""
        lowest, highest = await self._connection.fetchrow("SELECT min(id), max(id) FROM raw_events")
        query = """
            SELECT raw.id, raw.event_id, source.name AS source, record.processed_at
            FROM raw_events AS raw
            JOIN processed_records AS record ON record.raw_event_id = raw.id
            JOIN ingestion_sources AS source ON source.id = raw.source_id
            WHERE raw.id >= $1 ORDER BY raw.id LIMIT 1
        """
        rows = [await self._connection.fetchrow(query, chance.randint(lowest, highest)) for _ in range(number)]
        return [Place(**dict(row)) for row in rows]

    async def server_version(self) -> str:
        """Return PostgreSQL's version."""
        return str(await self._connection.fetchval("SHOW server_version"))

    async def settle(self) -> None:
        """Do what earlier measurements left to do, so that the next one does not pay for it."""
        for table in ("raw_events", "processed_records"):
            await self._connection.execute(f"VACUUM (ANALYZE) {table}", timeout=None)
        await self._connection.execute("CHECKPOINT", timeout=120)

    async def _portion(self, size: str, source_id: int, events: int) -> tuple[bytes, bytes]:
        """Return both tables' rows as COPY takes them."""
        words = await self._words(size, source_id, 1, events)
        portion = []
        for rows in (_RAW_ROWS, _RECORD_ROWS):
            parts: list[bytes] = []

            async def keep(data: bytes, parts: list[bytes] = parts) -> None:
                parts.append(bytes(data))

            await self._connection.copy_from_query(rows.format_map(words), output=keep, format="binary")
            portion.append(b"".join(parts))
        return portion[0], portion[1]

    async def _words(self, size: str, source_id: int, first: int, last: int) -> dict[str, object]:
        blocks = -(-(last - first + 1) // _BLOCK_IDS)
        last_block = await self._connection.fetchval(_RESERVE, blocks)
        return {
            "first": first,
            "last": last,
            "offset": (last_block - blocks) * _BLOCK_IDS + 1 - first,
            "source_id": source_id,
            "digits": NUMBER_DIGITS,
            "template": "'" + STORED[size].replace("'", "''") + "'",
        }

    async def _source_id(self, name: str) -> int:
        insert = "INSERT INTO ingestion_sources (name) VALUES ($1) ON CONFLICT (name) DO NOTHING"
        await self._connection.execute(insert, name)
        return int(await self._connection.fetchval("SELECT id FROM ingestion_sources WHERE name = $1", name))


async def _sent(rows: bytes) -> AsyncIterator[bytes]:
    """Yield the rows in portions, as the driver takes them."""
    for start in range(0, len(rows), _SENT_BYTES):
        yield rows[start : start + _SENT_BYTES]
