"""The feed of a ledger, and transactions that store records as a test wants them."""

from collections.abc import Sequence

import asyncpg

from api_gateway.queries.feed import BEGINNING, Feed, FeedPosition
from api_gateway.queries.parameters import read_cursor
from api_gateway.schemas import FeedPage, FeedRecord
from shared.auth.scopes import EVERY_SOURCE, Scope

_PAGES_MAX = 1_000
_ADD = """
    WITH stored AS (
        INSERT INTO raw_events (id, event_id, source_id, channel, received_at, content_type, body)
        SELECT id, gen_random_uuid(), $2, 1, now(), 'application/json', '{}' FROM unnest($1::bigint[]) AS id)
    INSERT INTO processed_records (id, raw_event_id, source_id, channel, status, processed_at)
    SELECT id, id, $2, 1, 1, now() FROM unnest($1::bigint[]) AS id
"""


class Follower:
    """Reads the feed page by page, and remembers what it has seen."""

    def __init__(self, feed: Feed, *, scope: Scope = EVERY_SOURCE, source: str | None = None, limit: int = 50) -> None:
        self.feed = feed
        self.scope, self.source, self.limit = scope, source, limit
        self.position = BEGINNING
        self.seen: list[FeedRecord] = []
        self.pages: list[FeedPage] = []

    @property
    def ids(self) -> list[int]:
        return [record.id for record in self.seen]

    async def read_page(self) -> FeedPage:
        page = await self.feed.page(self.scope, source=self.source, after=self.position, limit=self.limit)
        self.position = position(page.next)
        self.seen += page.items
        self.pages.append(page)
        return page

    async def read(self) -> list[int]:
        """Read until there is no more; return the ids of the records that were new."""
        before = len(self.seen)
        for _ in range(_PAGES_MAX):
            if not (await self.read_page()).more:
                return self.ids[before:]
        raise AssertionError("the feed does not end")


def position(text: str) -> FeedPosition:
    found = read_cursor(text, FeedPosition, parameter="after")
    assert found is not None
    return found


def order(place: FeedPosition) -> tuple[int, int]:
    """Return what grows along the feed."""
    return place.xid, place.id


async def add_source(connection: asyncpg.Connection, name: str = "s") -> int:
    query = "INSERT INTO ingestion_sources (name) VALUES ($1) RETURNING id"
    return int(await connection.fetchval(query, name))


async def add(connection: asyncpg.Connection, ids: Sequence[int], source_id: int) -> None:
    """Store records, with their events, in the transaction of the connection."""
    await connection.execute(_ADD, ids, source_id)
