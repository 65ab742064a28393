"""The audit: what the doors answered beside what the ledger holds, for one hour."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Protocol, Self

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from api_gateway.http.openapi import reply
from api_gateway.http.problems import AUDIT_TOO_LARGE, INVALID, OVERLOADED, UNAVAILABLE, HttpProblem
from api_gateway.http.request import admitted
from api_gateway.queries.paging import AuditPosition, read_audit_cursor
from api_gateway.queries.statements import AuditPart
from api_gateway.schemas import AuditPage
from shared.auth.authenticator import Caller
from shared.auth.scopes import Scope
from shared.contracts.errors import UnavailableError
from shared.contracts.event import source_problem
from shared.contracts.moment import read_moment_of_query
from shared.contracts.outcome import Problem
from shared.contracts.receipt import OTHER_SOURCES, UNREADABLE_SOURCE

_LINES_MAX: Final = 5_000
_CURSOR_CHARS_MAX: Final = 400
_LAST_HOUR: Final = datetime.max.replace(tzinfo=UTC) - timedelta(hours=1)
_HOUR: Final = timedelta(hours=1)
# With the time of the statements less than two seconds.
_DEPTHS_SECONDS_MAX: Final = 0.4


def _utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must be a moment of the years 1 to 9999") from error


def _hour(moment: datetime) -> datetime:
    hour = _utc(moment).replace(minute=0, second=0, microsecond=0)
    if hour > _LAST_HOUR:
        raise ValueError("must be a moment of the years 1 to 9999")
    return hour


def _countable_source(name: str) -> str:
    if name not in {UNREADABLE_SOURCE, OTHER_SOURCES} and (problem := source_problem(name)):
        raise ValueError(problem)
    return name


class AuditQuery(BaseModel):
    """The page of `GET /api/audit`."""

    model_config = ConfigDict(extra="forbid")

    hour: Annotated[AwareDatetime, BeforeValidator(read_moment_of_query), AfterValidator(_hour)] = Field(
        description="any moment of the hour, in which the events came in (RFC 3339)", examples=["2026-11-23T08:00:00Z"]
    )
    since: Annotated[AwareDatetime, BeforeValidator(read_moment_of_query), AfterValidator(_utc)] | None = Field(
        None, alias="from", description="of the events in the ledger only those that came in at this moment or later"
    )
    until: Annotated[AwareDatetime, BeforeValidator(read_moment_of_query), AfterValidator(_utc)] | None = Field(
        None, alias="to", description="of the events in the ledger only those that came in before this moment"
    )
    source: Annotated[str, AfterValidator(_countable_source)] | None = Field(None, examples=["manual-demo"])
    limit: int = Field(1_000, ge=1, le=_LINES_MAX)
    cursor: str | None = Field(None, max_length=_CURSOR_CHARS_MAX, description="`next` of the page before")

    @model_validator(mode="after")
    def _lies_in_its_hour(self) -> Self:
        since, until = self._span
        if not self.hour <= since < until <= self.hour + _HOUR:
            raise ValueError("from must be before to, and both in the hour")
        return self

    @property
    def _span(self) -> tuple[datetime, datetime]:
        return self.since or self.hour, self.until or self.hour + _HOUR

    def part(self, scope: Scope) -> AuditPart:
        """Return what is asked for, within a scope. Raises HttpProblem where the cursor is none."""
        return AuditPart(self.hour, *self._span, self.source, _after(self.cursor), scope)


class Books(Protocol):
    """The ledger, as the audit sees it. Raises UnavailableError where it cannot answer now."""

    async def audit(self, part: AuditPart, *, limit: int) -> AuditPage:
        """Return a page of the lines of a part of an hour, by source and channel; without queues.

        Raises OverloadedError, or HttpProblem where there is too much for one answer.
        """


class Lanes(Protocol):
    """The queues between the services."""

    async def depths(self) -> dict[str, int]:
        """Return how many messages wait in each. Raises UnavailableError."""


def _auditor(request: Request) -> Caller:
    """Return who asks. Raises RightMissingError."""
    caller = admitted(request.scope)[1]
    caller.check_right("audit")
    return caller


def audit_router(books: Books, lanes: Lanes, *, receipt_seconds: float) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/api", tags=["queries"], default_response_class=Response)

    @router.get(
        "/audit",
        operation_id="getAudit",
        summary="Compare what was answered with what is stored",
        responses=reply(AuditPage, INVALID, OVERLOADED, AUDIT_TOO_LARGE, UNAVAILABLE),
    )
    async def get_audit(
        caller: Annotated[Caller, Depends(_auditor)], query: Annotated[AuditQuery, Query()]
    ) -> Response:
        """The books of one hour, by source and channel. `etlpay audit` asks for hours and judges them.

        They are those of the sources that the API key is for. What was answered is counted by the hour, and stands in
        the part that begins with the hour; so the parts of an hour add up to it. An answer or a refusal comes within
        two seconds.
        """
        if query.source is not None:
            caller.check_source(query.source, "/query/source")
        # The queues first: what is no longer in them must be in the books that are read afterwards.
        queues = await _depths(lanes)
        page = await books.audit(query.part(caller.scope), limit=query.limit)
        answer = msgspec.structs.replace(page, queues=queues, receipt_seconds=receipt_seconds)
        return Response(msgspec.json.encode(answer), media_type="application/json")

    return router


async def _depths(lanes: Lanes) -> dict[str, int] | None:
    try:
        async with asyncio.timeout(_DEPTHS_SECONDS_MAX):
            return await lanes.depths()
    except (UnavailableError, TimeoutError):
        return None


def _after(cursor: str | None) -> AuditPosition | None:
    if cursor is None:
        return None
    try:
        return read_audit_cursor(cursor)
    except ValueError as error:
        problem = Problem("/query/cursor", "must be `next` of a page before")
        raise HttpProblem(INVALID, "The cursor is not one of ours.", errors=[problem]) from error
