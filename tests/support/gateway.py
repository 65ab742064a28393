"""The gateway over twins, without a socket."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from uuid import UUID

import httpx2
import msgspec
from fastapi import FastAPI

from api_gateway.app import build_app
from api_gateway.http.problems import HttpProblem
from api_gateway.queries.paging import AuditPosition, Position, audit_cursor, record_cursor, source_cursor
from api_gateway.queries.statements import AuditPart, RecordFilter
from api_gateway.schemas import AuditLine, AuditPage, RecordPage, SourcePage
from api_gateway.settings import GatewaySettings
from shared.auth.authenticator import Access
from shared.auth.scopes import Scope
from shared.cache import Cache
from shared.contracts.errors import RetryableError, UnavailableError
from shared.contracts.event import Channel, now
from shared.contracts.record import Record, Source
from shared.runtime.readiness import Readiness
from shared.runtime.service import running
from shared.submit.submitter import Submitter
from shared.testing.processing import FakeProcessing
from shared.testing.publisher import FakePublisher


class LedgerTwin:
    """Records in memory, in the order of the pages."""

    def __init__(self) -> None:
        self.all: list[Record] = []
        self.all_sources: list[Source] = []
        self.books: list[AuditLine] = []
        self.audited: list[AuditPart] = []
        self.audit_error: HttpProblem | RetryableError | None = None
        self.away = False
        self.asked: list[RecordFilter] = []

    async def record(self, record_id: int) -> Record | None:
        self._answer()
        return next((record for record in self.all if record.id == record_id), None)

    async def record_of_event(self, event_id: UUID) -> Record | None:
        self._answer()
        return next((record for record in self.all if record.event_id == event_id), None)

    async def records(self, which: RecordFilter, *, after: Position | None, limit: int) -> RecordPage:
        self._answer()
        self.asked.append(which)
        asked = Scope([which.source]) if which.source is not None else which.scope
        found = [record for record in self.all if asked.covers(record.source)]
        newest = sorted(found, key=lambda record: (record.processed_at, record.id), reverse=True)
        rest = [record for record in newest if after is None or (record.processed_at, record.id) < after]
        items = rest[:limit]
        more = len(rest) > limit
        return RecordPage(items, record_cursor(Position(items[-1].processed_at, items[-1].id)) if more else None)

    async def sources(self, scope: Scope, *, after: int, limit: int) -> SourcePage:
        self._answer()
        rest = [source for source in self.all_sources if source.id > after and scope.covers(source.name)]
        return SourcePage(rest[:limit], source_cursor(rest[limit - 1].id) if len(rest) > limit else None)

    async def audit(self, part: AuditPart, *, limit: int) -> AuditPage:
        self._answer()
        self.audited.append(part)
        if self.audit_error is not None:
            raise self.audit_error
        lines = [line for line in self.books if part.source in {None, line.source} and part.scope.covers(line.source)]
        rest = [line for line in lines if part.after is None or line.source > part.after.source]
        last = rest[limit - 1] if len(rest) > limit else None
        cursor = audit_cursor(AuditPosition(last.source, Channel[last.channel.upper()])) if last else None
        return AuditPage(hour=part.hour, as_of=now(), items=rest[:limit], next=cursor, series=[], overflowed=[])

    def _answer(self) -> None:
        if self.away:
            raise UnavailableError("away")


class CacheTwin(Cache):
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

    async def put_queued(self, events: "list[tuple[UUID, str]]") -> None:  # type: ignore[override]  # a twin takes what the test hands it
        self.queued |= dict(events)


class Gateway(msgspec.Struct):
    """A gateway and everything it talks to."""

    client: httpx2.AsyncClient
    app: FastAPI
    processing: FakeProcessing
    publisher: FakePublisher
    ledger: LedgerTwin
    cache: CacheTwin
    readiness: Readiness


GatewayMaker = Callable[..., AbstractAsyncContextManager[Gateway]]


@asynccontextmanager
async def run_gateway(
    processing: FakeProcessing | None = None, access: Access | None = None, **settings: object
) -> AsyncIterator[Gateway]:
    chosen = GatewaySettings(_env_file=None, **settings)  # type: ignore[arg-type]  # settings of any type
    processing, publisher = processing or FakeProcessing(), FakePublisher()
    ledger, cache, readiness = LedgerTwin(), CacheTwin(), Readiness("intake")
    submitter = Submitter(processing, publisher, limits=chosen.batch, fallback_to_queue=chosen.fallback_to_queue)
    app = build_app(
        submitter=submitter,
        ledger=ledger,
        lanes=publisher,
        cache=cache,
        readiness=readiness,
        access=access or Access(None),
        settings=chosen,
    )
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    headers = {"Content-Type": "application/json"}
    async with (
        running(submitter),
        httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as client,
    ):
        yield Gateway(client, app, processing, publisher, ledger, cache, readiness)
