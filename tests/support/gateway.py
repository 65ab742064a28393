"""The gateway over fakes, without a socket."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from uuid import UUID

import httpx2
import msgspec
from fastapi import APIRouter

from api_gateway.app import Gateway as Application
from api_gateway.app import build_app
from api_gateway.http.problems import RESTORED, HttpProblem
from api_gateway.queries.audit import Audit, AuditPart, audit_router
from api_gateway.queries.events import Events, event_router
from api_gateway.queries.feed import Feed, FeedPosition, feed_router
from api_gateway.queries.records import RecordCursor, RecordFilter, Records, record_router
from api_gateway.queries.sources import SourceCursor, Sources, source_router
from api_gateway.schemas import FeedPage, FeedRecord, RecordPage, SourcePage
from api_gateway.settings import GatewaySettings
from api_gateway.trials.process import Trials
from shared.auth.authenticator import Access
from shared.auth.scopes import Scope
from shared.cache import Cache
from shared.contracts.audit import AuditLine, AuditPage
from shared.contracts.errors import RetryableError, UnavailableError
from shared.contracts.event import now
from shared.contracts.record import Record, Source
from shared.runtime.readiness import Readiness
from shared.runtime.service import running
from shared.submit.submitter import Submitter
from shared.testing.processing import FakeProcessing
from shared.testing.publisher import FakePublisher
from support.over_protocol import transport_of


class FakeLedger:
    """What the queries read, in memory: records and sources in the order of the pages, and lines of the audit."""

    def __init__(self) -> None:
        self.all: list[Record] = []
        self.all_sources: list[Source] = []
        self.audit_lines: list[AuditLine] = []
        self.audited: list[AuditPart] = []
        self.audit_error: HttpProblem | RetryableError | None = None
        self.away = False
        self.asked: list[RecordFilter] = []
        self.answers_pages = asyncio.Event()
        """Pages of records wait until it is set, as it is at first."""
        self.answers_pages.set()

    def answer(self) -> None:
        """Raise UnavailableError while it is away."""
        if self.away:
            raise UnavailableError("away")


class FakeRecords(Records):
    def __init__(self, ledger: FakeLedger, cache: Cache) -> None:
        super().__init__(ledger, cache)  # type: ignore[arg-type]  # what would use it is overridden
        self._fake = ledger

    async def read(self, query: str, key: int | UUID) -> Record | None:  # noqa: ARG002 - the real one's
        self._fake.answer()
        return next((record for record in self._fake.all if key in {record.id, record.event_id}), None)

    async def page(self, which: RecordFilter, *, after: RecordCursor | None, limit: int) -> RecordPage:
        self._fake.answer()
        self._fake.asked.append(which)
        await self._fake.answers_pages.wait()
        asked = Scope([which.source]) if which.source is not None else which.scope
        found = [record for record in self._fake.all if asked.covers(record.source)]
        newest = sorted(found, key=lambda record: (record.processed_at, record.id), reverse=True)
        before = (after.processed_at, after.id) if after else None
        rest = [record for record in newest if before is None or (record.processed_at, record.id) < before]
        last = rest[limit - 1] if len(rest) > limit else None
        return RecordPage(rest[:limit], RecordCursor(last.processed_at, last.id).encode() if last else None)


class FakeFeed(Feed):
    """The records in the order of their ids, each in a transaction of its own."""

    def __init__(self, ledger: FakeLedger) -> None:
        self._fake = ledger

    async def page(self, scope: Scope, *, source: str | None, after: FeedPosition, limit: int) -> FeedPage:
        self._fake.answer()
        if after.xid > len(self._fake.all):
            raise HttpProblem(RESTORED, "none of this ledger")
        asked = scope if source is None else Scope([source])
        rest = [each for each in self._fake.all if each.id > after.id and asked.covers(each.source)]
        items = [_fed(each) for each in rest[:limit]]
        return FeedPage(items, items[-1].position if items else after.encode(), more=len(rest) > limit)


def _fed(record: Record) -> FeedRecord:
    return FeedRecord(
        **msgspec.structs.asdict(record),
        pipeline=None,
        pipeline_version=None,
        row_count=None,
        cause=None,
        position=FeedPosition(record.id, record.id, record.processed_at, record.id).encode(),
    )


class FakeSources(Sources):
    def __init__(self, ledger: FakeLedger) -> None:
        self._fake = ledger

    async def page(self, scope: Scope, *, after: SourceCursor | None, limit: int) -> SourcePage:
        self._fake.answer()
        first = after.id if after else 0
        rest = [source for source in self._fake.all_sources if source.id > first and scope.covers(source.name)]
        return SourcePage(rest[:limit], SourceCursor(rest[limit - 1].id).encode() if len(rest) > limit else None)


class FakeAudit(Audit):
    def __init__(self, ledger: FakeLedger) -> None:
        self._fake = ledger

    async def page(self, part: AuditPart, *, limit: int) -> AuditPage:
        self._fake.answer()
        self._fake.audited.append(part)
        if self._fake.audit_error is not None:
            raise self._fake.audit_error
        lines = [line for line in self._fake.audit_lines if part.source in {None, line.source}]
        rest = [line for line in lines if part.scope.covers(line.source)][:limit]
        return AuditPage(hour=part.hour, as_of=now(), items=rest, next=None, series=[], overflowed=[])


class FakeCache(Cache):
    """A cache in memory."""

    def __init__(self) -> None:
        super().__init__(None, seconds=1)
        self.queued: dict[UUID, str] = {}
        self.kept: dict[UUID | int, Record] = {}

    async def record_of_event(self, event_id: UUID) -> Record | None:
        return self.kept.get(event_id)

    async def record(self, record_id: int) -> Record | None:
        return self.kept.get(record_id)

    async def source_of_queued(self, event_id: UUID) -> str | None:
        return self.queued.get(event_id)

    async def put_records(self, records: Sequence[Record], *, epoch: str | None) -> None:  # noqa: ARG002 - the real one's
        self.kept |= {record.event_id: record for record in records} | {record.id: record for record in records}

    async def put_queued(self, events: "list[tuple[UUID, str]]") -> None:  # type: ignore[override]  # a fake takes what the test hands it
        self.queued |= dict(events)


class Gateway(msgspec.Struct):
    """A gateway and everything it talks to."""

    client: httpx2.AsyncClient
    app: Application
    processing: FakeProcessing
    publisher: FakePublisher
    ledger: FakeLedger
    cache: FakeCache
    readiness: Readiness


GatewayMaker = Callable[..., AbstractAsyncContextManager[Gateway]]


@asynccontextmanager
async def run_gateway(  # noqa: PLR0913 - what a test may replace
    processing: FakeProcessing | None = None,
    access: Access | None = None,
    feed: Feed | None = None,
    trials: Trials | None = None,
    queries: Sequence[APIRouter] = (),
    *,
    over_protocol: bool = False,
    **settings: object,
) -> AsyncIterator[Gateway]:
    """Run a gateway over fakes. `over_protocol`: its client talks to the HTTP protocol, and not to the application."""
    chosen = GatewaySettings(_env_file=None, **settings)  # type: ignore[arg-type]  # settings of any type
    processing, publisher = processing or FakeProcessing(), FakePublisher()
    ledger, cache, readiness = FakeLedger(), FakeCache(), Readiness("intake")
    records = FakeRecords(ledger, cache)
    submitter = Submitter(processing, publisher, limits=chosen.batch, fallback_to_queue=chosen.fallback_to_queue)
    app = build_app(
        submitter=submitter,
        cache=cache,
        queries=[
            source_router(FakeSources(ledger)),
            record_router(records),
            event_router(Events(records, cache)),
            feed_router(feed or FakeFeed(ledger)),
            audit_router(FakeAudit(ledger), publisher, receipt_seconds=chosen.receipt_seconds),
            *queries,
        ],
        trials=trials or Trials(),
        readiness=readiness,
        access=access or Access(None),
        settings=chosen,
    )
    transport: httpx2.AsyncBaseTransport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    if over_protocol:
        transport = transport_of(app, chosen)
    headers = {"Content-Type": "application/json"}
    async with (
        running(submitter),
        httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as client,
    ):
        yield Gateway(client, app, processing, publisher, ledger, cache, readiness)
