"""`GET /api/feed`: everything that is stored, in an order in which whoever follows it misses nothing."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, NamedTuple

import asyncpg
from fastapi import APIRouter, Query, Response
from msgspec import Meta, structs
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api_gateway.http.openapi import reply
from api_gateway.http.problems import INVALID, RESTORED, UNAVAILABLE, HttpProblem
from api_gateway.queries.ledger import Ledger, expect_large_record, scope_parameters
from api_gateway.queries.parameters import Cursor, Reader, json_response, read_cursor, valid_source
from api_gateway.queries.records import ALL_RECORDS, RECORD_BYTES_MAX, SOURCES_OF_SCOPE, record_of
from api_gateway.schemas import FeedPage, FeedRecord
from shared.auth.scopes import Scope

# Records of other sources that a page looks at, for each that it may hold.
_LOOKED_AT: Final = 10
_ROWS_MAX: Final = 1_000
_CURSOR_CHARS_MAX: Final = 80
_NUMBER_MAX: Final = 2**63 - 1

# Rows of the feed from a position on; its own row comes first, and proves that the position is of this ledger. A
# transaction below `settled` has ended, and so has every one before it: what commits later has a higher number. Numbers
# that this server has not given yet are those of another.
ROWS: Final = """
    SELECT server.is_other, part.*
    FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS settled,
                 coalesce((SELECT xid FROM feed ORDER BY xid DESC LIMIT 1)
                          >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint, false) AS is_other) AS server
    LEFT JOIN LATERAL (
        SELECT xid, first_id, last_id, stored_at FROM feed
        WHERE (xid, first_id) >= ($1::bigint, $2::bigint) AND xid < server.settled
        ORDER BY xid, first_id LIMIT $3
    ) AS part ON true
    ORDER BY part.xid, part.first_id
"""

# Of the records with the ids of parts, in their order, the first $4 that are `mine`. Not more than $3 are looked at:
# where there are so many the last of them comes, too.
LOOK: Final = """
    SELECT place, id, mine, number
    FROM (
        SELECT place, id, {mine} AS mine, row_number() OVER (ORDER BY place, id) AS number
        FROM (
            SELECT part.place, record.id, record.source_id
            FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS part (low, high, place)
            CROSS JOIN LATERAL (
                SELECT id, source_id FROM processed_records
                WHERE id BETWEEN part.low AND part.high ORDER BY id LIMIT $3
            ) AS record
            ORDER BY part.place, record.id LIMIT $3
        ) AS looked
    ) AS numbered
    WHERE mine OR number = $3
    ORDER BY place, id LIMIT $4 + 1
"""
_OF_SOURCE: Final = "coalesce(source_id = (SELECT id FROM ingestion_sources WHERE name = $5), false)"
_OF_SCOPE: Final = f"source_id = ANY(ARRAY({SOURCES_OF_SCOPE.format('$5', '$6')}))"

# The records $1, each with its number among them, up to a page of $2 bytes.
_ENTRIES: Final = f"""
    SELECT * FROM (
        SELECT entry.*, wanted.number, sum(size) OVER (ORDER BY wanted.number) - size AS bytes_before,
               record.row_count, pipeline.name AS pipeline, pipeline.version AS pipeline_version, cause.name AS cause
        FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, number)
        JOIN ({ALL_RECORDS} WHERE record.id = ANY($1::bigint[])) AS entry ON entry.id = wanted.id
        JOIN processed_records AS record ON record.id = wanted.id
        LEFT JOIN pipelines AS pipeline ON pipeline.id = record.pipeline_id
        LEFT JOIN causes AS cause ON cause.id = record.cause_id
    ) AS counted
    WHERE bytes_before + size <= $2 OR bytes_before = 0
    ORDER BY number
"""  # noqa: S608 - parts of our own statement


class FeedPosition(Cursor, frozen=True, tag="feed"):
    """A row of the feed, by its transaction, its first record and its time, and the last record that was looked at."""

    xid: Annotated[int, Meta(ge=0, le=_NUMBER_MAX)]
    first_id: Annotated[int, Meta(ge=0, le=_NUMBER_MAX)]
    stored_at: datetime
    id: Annotated[int, Meta(ge=0, le=_NUMBER_MAX)]


BEGINNING: Final = FeedPosition(0, 0, datetime(1970, 1, 1, tzinfo=UTC), 0)


class FeedQuery(BaseModel):
    """The parameters of `GET /api/feed`."""

    model_config = ConfigDict(extra="forbid")

    after: str | None = Field(
        None,
        max_length=_CURSOR_CHARS_MAX,
        description="`next` of the page before, or `position` of a record; without it the feed begins with the first",
    )
    source: Annotated[str, AfterValidator(valid_source)] | None = Field(None, examples=["manual-demo"])
    limit: int = Field(50, ge=1, le=500)


class Part(NamedTuple):
    """Ids of records from `low` to `high`, none where `low` is greater; `end` is the position after them."""

    low: int
    high: int
    end: FeedPosition


class _Looked(NamedTuple):
    """The records of a page with the position after each, and that after everything that was looked at."""

    ids: Sequence[int]
    positions: Sequence[FeedPosition]
    end: FeedPosition
    is_cut: bool


class Feed:
    """Reads the feed."""

    def __init__(self, ledger: Ledger) -> None:
        """Nothing is read here."""
        self._ledger = ledger

    async def page(self, scope: Scope, *, source: str | None, after: FeedPosition, limit: int) -> FeedPage:
        """Return up to `limit` records of a source, or of a scope, that come after a position.

        A page ends early where its payloads would grow beyond the limit of a page, or where it has looked at too many
        records of other sources. A larger record is a page of its own.

        Raises:
            HttpProblem: the position is not of this ledger. UnavailableError or OverloadedError.
        """
        of_all = source is None and scope.everything
        number_max = limit if of_all else limit * _LOOKED_AT
        rows_max = min(number_max, _ROWS_MAX) + 1
        rows = await self._rows(after, rows_max)
        parts = list(parts_after(after, rows))
        reach = list(_reach(parts, number_max))
        if not reach:
            return FeedPage([], after.encode(), more=False)
        mine, names = _mine(scope, source)
        looked = await self._look(reach, LOOK.format(mine=mine), names, number_max=number_max, limit=limit)
        entries = await self._entries(looked.ids)
        items = [_item(row, looked.positions[row["number"] - 1]) for row in entries]
        # A record may have been erased meanwhile; that it is not here is no reason to stop before it.
        if entries and entries[-1]["number"] < len(looked.ids):
            return FeedPage(items, items[-1].position, more=True)
        more = looked.is_cut or len(reach) < len(parts) or len(rows) == rows_max
        return FeedPage(items, looked.end.encode(), more=more)

    async def _rows(self, after: FeedPosition, rows_max: int) -> list[asyncpg.Record]:
        rows = await self._ledger.rows(ROWS, after.xid, after.first_id, rows_max)
        if rows[0]["is_other"]:
            raise HttpProblem(UNAVAILABLE, "The ledger was restored; the feed goes on when the migrations have run.")
        found = [row for row in rows if row["xid"] is not None]
        if after != BEGINNING and not (found and _is_row_of(after, found[0])):
            raise HttpProblem(RESTORED, "The position is not one of this ledger.")
        return found

    async def _look(
        self, parts: Sequence[Part], query: str, names: Sequence[object], *, number_max: int, limit: int
    ) -> _Looked:
        lows, highs = [part.low for part in parts], [part.high for part in parts]
        rows = await self._ledger.rows(query, lows, highs, number_max, limit, *names)
        mine = [row for row in rows if row["mine"]][:limit]
        positions = [_position(parts, row) for row in mine]
        if len(mine) == limit:
            return _Looked([row["id"] for row in mine], positions, positions[-1], is_cut=True)
        is_cut = bool(rows) and rows[-1]["number"] == number_max
        end = _position(parts, rows[-1]) if is_cut else parts[-1].end
        return _Looked([row["id"] for row in mine], positions, end, is_cut=is_cut)

    async def _entries(self, ids: Sequence[int]) -> list[asyncpg.Record]:
        """Return the first of these records, as many as are a page."""
        if not ids:
            return []
        bytes_max = self._ledger.page_bytes_max
        rows = await self._ledger.rows(_ENTRIES, ids, bytes_max)
        if rows and rows[0]["size"] > bytes_max:
            await expect_large_record()
            return await self._ledger.rows(_ENTRIES, [rows[0]["id"]], RECORD_BYTES_MAX)
        return [row for row in rows if row["size"] <= bytes_max]


def parts_after(after: FeedPosition, rows: Sequence[asyncpg.Record]) -> Iterator[Part]:
    """Yield what rows of the feed name after a position, each record of a transaction once.

    Two statements of a transaction may have stored ids between one another's.
    """
    xid, done = after.xid, after.id
    for row in rows:
        if row["xid"] != xid:
            xid, done = row["xid"], 0
        low = max(row["first_id"], done + 1)
        done = max(row["last_id"], done)
        yield Part(low, done, FeedPosition(xid, row["first_id"], row["stored_at"], done))


def _reach(parts: Sequence[Part], number: int) -> Iterator[Part]:
    """Yield the first parts, as many as have so many ids together; the last may have more."""
    for part in parts:
        yield part
        number -= max(part.high - part.low + 1, 0)
        if number <= 0:
            return


def _mine(scope: Scope, source: str | None) -> tuple[str, Sequence[object]]:
    """Return the condition on the records of a page, with its parameters."""
    if source is not None:
        return _OF_SOURCE, (source,)
    return ("true", ()) if scope.everything else (_OF_SCOPE, scope_parameters(scope))


def _is_row_of(position: FeedPosition, row: asyncpg.Record) -> bool:
    found = (row["xid"], row["first_id"], row["stored_at"])
    return found == (position.xid, position.first_id, position.stored_at)


def _position(parts: Sequence[Part], row: asyncpg.Record) -> FeedPosition:
    """Return the position after a record."""
    end: FeedPosition = parts[row["place"] - 1].end
    return structs.replace(end, id=row["id"])


def _item(row: asyncpg.Record, position: FeedPosition) -> FeedRecord:
    return FeedRecord(
        **structs.asdict(record_of(row)),
        pipeline=row["pipeline"],
        pipeline_version=row["pipeline_version"],
        row_count=row["row_count"],
        cause=row["cause"],
        position=position.encode(),
    )


_EXAMPLE: Final[dict[str, Any]] = {
    "items": [
        {
            "id": 4711,
            "raw_event_id": 4711,
            "event_id": "5b6fb4a2-6f1f-5a0b-9a63-0e7f4a9f3b7e",
            "source": "manual-demo",
            "channel": "http",
            "status": "SUCCESS",
            "attempt": 1,
            "result_payload": {"amount": "1250.00", "currency": "EUR"},
            "errors": [],
            "idempotency_key": "invoice-2026-0001",
            "type": "payment.captured",
            "occurred_at": "2026-11-23T08:00:00Z",
            "received_at": "2026-11-23T08:00:01.123456Z",
            "processed_at": "2026-11-23T08:00:01.125Z",
            "pipeline": None,
            "pipeline_version": None,
            "row_count": None,
            "cause": None,
            "position": "laRmZWVkzTA5zRJn1v9rA4IAzRJn",
        }
    ],
    "next": "laRmZWVkzTA5zRJn1v9rA4IAzRJn",
    "more": False,
}


def feed_router(feed: Feed) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/api", tags=["queries"], default_response_class=Response)

    @router.get(
        "/feed",
        operation_id="readFeed",
        summary="Follow what is stored",
        responses=reply(FeedPage, RESTORED, INVALID, UNAVAILABLE, example=_EXAMPLE),
    )
    async def read_feed(caller: Reader, query: Annotated[FeedQuery, Query()]) -> Response:
        """Every record, once at least, in the order in which their transactions began to write.

        Ask again with `next`, at once where there is `more`. A page may be empty, and `next` goes on all the same. A
        record is given when every transaction that began before its own has ended, so that nothing is missed. The
        records are those of the sources that the API key is for.
        """
        if query.source is not None:
            caller.check_source(query.source, "/query/source")
        after = read_cursor(query.after, FeedPosition, parameter="after") or BEGINNING
        return json_response(await feed.page(caller.scope, source=query.source, after=after, limit=query.limit))

    return router
