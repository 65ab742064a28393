"""The ASGI application: who may send a request, and which part of the gateway serves it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from fastapi import APIRouter, FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from api_gateway.http.framework import build_framework
from api_gateway.http.headers import Headers, read_headers, text_of
from api_gateway.http.hosts import Hosts, host_refusal
from api_gateway.http.problems import MISDIRECTED, HttpProblem, error_response, rate_exceeded, unauthenticated
from api_gateway.http.request import (
    ADMITTED,
    REFUSED_LIMITS,
    Admitted,
    RequestStream,
    send_response,
    sending_pieces,
)
from api_gateway.http.whole import WholeRequest
from api_gateway.ingest.batch import IngestBatch
from api_gateway.ingest.single import IngestOne
from api_gateway.pages.documents import document_routes, problem_routes
from api_gateway.queries.audit import Audit, Queues, audit_router
from api_gateway.queries.drift import Drifts, drift_router
from api_gateway.queries.events import Events, event_router
from api_gateway.queries.feed import Feed, feed_router
from api_gateway.queries.ledger import Ledger, QueryLimit, RunningQuery
from api_gateway.queries.pipelines import Pipelines, pipeline_router
from api_gateway.queries.records import Records, record_router
from api_gateway.queries.sources import Sources, source_router
from api_gateway.queries.tables import Tables, table_router
from api_gateway.queries.totals import Totals, total_router
from api_gateway.schemas import API_PREFIX, BATCH_PATH, INGEST_PATH, TRY_PATH
from api_gateway.settings import GatewaySettings
from api_gateway.trials.endpoint import TryPipeline
from api_gateway.trials.process import Trials
from shared.auth.authenticator import Access, Caller, UnauthenticatedError
from shared.auth.rate import RateExceededError, Rates
from shared.auth.scopes import RightMissingError
from shared.cache import Cache
from shared.contracts.errors import OverloadedError, RetryableError
from shared.contracts.event import Channel
from shared.intake import Intake
from shared.runtime.limits import CapacityLimit, network_of
from shared.runtime.ops import health_routes
from shared.runtime.readiness import Readiness
from shared.runtime.timeouts import Timeouts
from shared.submit.submitter import Submitter

_HEALTH_PATHS: Final = frozenset({"/livez", "/readyz"})
_Refusal: TypeAlias = HttpProblem | RetryableError | RightMissingError


class Gateway:
    """An ASGI application: POST requests go to their endpoints, all else to the framework.

    Events do not pass the framework: its layers do nothing for them, and cost 45 of 100 microseconds of a request
    (py-spy, 64 connections, 850 bytes). For the same reason this is one layer and not one for each of its steps.
    """

    def __init__(  # noqa: PLR0913 - the parts of the gateway
        self,
        framework: FastAPI,
        endpoints: Mapping[str, ASGIApp],
        *,
        ingest: Callable[[WholeRequest, Caller, str], None],
        access: Access,
        hosts: Hosts | None,
        settings: GatewaySettings,
    ) -> None:
        """`endpoints` serve POST requests by path; a path that ends with a slash stands for all paths below it.

        `ingest` serves an event that came as a whole, of a caller that a limit counts under a name.

        Without `hosts` the headers Host and Origin are not checked.
        """
        self.framework: Final = framework
        self._endpoints = dict(endpoints)
        self._ingest = ingest
        self._prefixes = tuple(path for path in endpoints if path.endswith("/"))
        self._access = access
        self._hosts = hosts
        self._requests = CapacityLimit(settings.http_requests_max, share=settings.caller_share_max)
        self._pages = CapacityLimit(settings.http_pages_max, share=settings.caller_share_max)
        self._queries = QueryLimit(
            settings.queries_max, share=settings.caller_share_max, seconds_max=settings.query_wait_seconds_max
        )
        rate = settings.rate_per_key if settings.queries_rate_per_key is None else settings.queries_rate_per_key
        self._query_rates = Rates(rate)
        self._timeouts = Timeouts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.

        Health is always served; documents and API requests are, if the caller's share of a limit allows it. The others
        get 503, and nothing of them is read. An API request needs a caller, or it gets 401. What the caller may do is
        checked where it is served.
        """
        if scope["type"] != "http":
            await self.framework(scope, receive, send)
            return
        client = scope.get("client")
        peer = network_of(client[0]) if client else ""
        if not scope["path"].startswith(API_PREFIX):
            await self._serve_page(peer, scope, receive, send)
            return
        headers = read_headers(scope["headers"])
        endpoint = None
        if scope["method"] == "POST":
            endpoint = self._endpoints.get(scope["path"]) or self._endpoint_above(scope["path"])
        caller: Caller | _Refusal
        try:
            caller = self._admit(headers, peer, sends=endpoint is not None)
            counted_as = caller.name or peer
        except (HttpProblem, RetryableError, RightMissingError) as error:
            caller, counted_as = error, peer
        try:
            self._requests.acquire(counted_as)
        except OverloadedError as error:
            await send_response(send, error_response(error), close=True)
            return
        try:
            if not isinstance(caller, Caller):
                request = RequestStream(headers, receive, send, limits=REFUSED_LIMITS, timeouts=self._timeouts)
                await request.respond(error_response(caller))
                return
            scope[ADMITTED] = Admitted(headers, caller, counted_as)
            if endpoint is None:
                await self._serve_query(counted_as, scope, receive, send)
            else:
                await endpoint(scope, receive, send)
        finally:
            self._requests.release(counted_as)

    def serve_whole(self, request: WholeRequest) -> None:
        """Serve `POST /api/ingest` of a request that came as a whole: the same as `__call__`, without a task."""
        caller: Caller | _Refusal
        try:
            caller = self._admit(request.headers, request.peer, sends=True)
            counted_as = caller.name or request.peer
        except (HttpProblem, RetryableError, RightMissingError) as error:
            caller, counted_as = error, request.peer
        try:
            request.acquire(self._requests, counted_as)
        except OverloadedError as error:
            request.respond(error_response(error), close=True)
            return
        if isinstance(caller, Caller):
            self._ingest(request, caller, counted_as)
        else:
            request.respond(error_response(caller))

    def _endpoint_above(self, path: str) -> ASGIApp | None:
        return self._endpoints.get(next(filter(path.startswith, self._prefixes), ""))

    async def _serve_page(self, peer: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a document or, without a limit, health."""
        if scope["path"] in _HEALTH_PATHS:
            await self.framework(scope, receive, send)
            return
        try:
            self._pages.acquire(peer)
        except OverloadedError as error:
            await send_response(send, error_response(error), close=True)
            return
        try:
            await self.framework(scope, receive, sending_pieces(send))
        finally:
            self._pages.release(peer)

    async def _serve_query(self, counted_as: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a query when it has a place in the limit, which it holds until its response is read."""
        try:
            self._query_rates.spend(counted_as)
            async with RunningQuery(self._queries, counted_as):
                await self.framework(scope, receive, sending_pieces(send))
        except RateExceededError as error:
            await send_response(send, error_response(rate_exceeded(error, what="queries")), close=True)
        except OverloadedError as error:
            # Raised by the limit alone: the framework answers the errors of its routes.
            await send_response(send, error_response(error), close=True)

    def _admit(self, headers: Headers, peer: str, *, sends: bool) -> Caller:
        """Return who sends a request from an address; `sends`: with events in it.

        Raises:
            HttpProblem: no valid API key, or another host was meant. UnavailableError: the keys cannot be checked now.
            RightMissingError: the caller may not send.
        """
        if self._hosts is not None and (problem := self._hosts.problem_of(headers.host, headers.origin)):
            self._access.refusals.count("host" if problem is MISDIRECTED else "origin")
            raise host_refusal(problem)
        credentials = None if headers.authorization is None else text_of(headers.authorization)
        try:
            caller = self._access.admit(credentials, peer)
        except UnauthenticatedError as error:
            raise unauthenticated() from error
        if sends and not caller.may_send:
            caller.check_right("send")
        return caller


def query_routers(ledger: Ledger, queues: Queues, cache: Cache, settings: GatewaySettings) -> list[APIRouter]:
    """Return the routes of all queries, in the order of the API's description."""
    records = Records(ledger, cache)
    pipelines = Pipelines(ledger)
    audit = Audit(ledger, seconds_max=settings.audit_seconds_max)
    return [
        source_router(Sources(ledger)),
        record_router(records),
        event_router(Events(records, cache)),
        feed_router(Feed(ledger)),
        pipeline_router(pipelines),
        table_router(Tables(ledger, pipelines)),
        total_router(Totals(ledger, pipelines)),
        drift_router(Drifts(ledger, pipelines)),
        audit_router(audit, queues, receipt_seconds=settings.receipt_seconds),
    ]


def build_app(  # noqa: PLR0913 - everything that a request meets
    *,
    submitter: Submitter,
    cache: Cache,
    queries: Sequence[APIRouter],
    trials: Trials,
    readiness: Readiness,
    access: Access,
    settings: GatewaySettings,
) -> Gateway:
    """Return the application; nothing connects or starts here."""
    documented = not access.asks_for_keys if settings.http_docs is None else settings.http_docs
    intake = Intake(
        submitter,
        Channel.HTTP,
        batch_events_max=settings.http_batch_request_group_events,
        batch_bytes_max=settings.http_batch_request_group_bytes + settings.body_bytes_max,
    )
    ingest = IngestOne(intake, cache, settings)
    endpoints: dict[str, ASGIApp] = {
        INGEST_PATH: ingest,
        BATCH_PATH: IngestBatch(intake, cache, settings),
    }
    # The framework answers their other methods.
    routes = [Route(path, endpoint, methods=["POST"]) for path, endpoint in endpoints.items()]
    routes.append(Route(TRY_PATH, TryPipeline(trials, settings), methods=["POST"]))
    routes += [*problem_routes(), *health_routes(readiness)]
    if documented:
        routes += document_routes("EtlPay")
    hosts = Hosts.from_settings(settings, asks_for_keys=access.asks_for_keys)
    framework = build_framework(queries, routes, documented=documented)
    return Gateway(framework, endpoints, ingest=ingest.serve_whole, access=access, hosts=hosts, settings=settings)
