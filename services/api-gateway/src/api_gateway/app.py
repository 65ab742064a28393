"""The application: the doors under one roof, and one way to answer errors."""

from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from api_gateway.http.headers import Headers, read_headers, text_of
from api_gateway.http.hosts import Hosts, refusal_of
from api_gateway.http.openapi import describe
from api_gateway.http.problems import (
    INVALID,
    MISDIRECTED,
    NOT_FOUND,
    HttpProblem,
    error_response,
    problem_response,
    rate_exceeded,
    status_response,
    unauthenticated,
)
from api_gateway.http.request import ADMITTED, REFUSED_LIMITS, Admitted, RequestStream, send_response, sending_pieces
from api_gateway.ingest.batch import IngestBatch
from api_gateway.ingest.single import IngestOne
from api_gateway.pages.documents import document_routes, problem_routes
from api_gateway.queries.audit import Books, Lanes, audit_router
from api_gateway.queries.routes import Queries, Reader, query_router
from api_gateway.queries.turns import Turn, Turns
from api_gateway.schemas import API_PREFIX, BATCH_PATH, INGEST_PATH, HttpResponse
from api_gateway.settings import GatewaySettings
from shared.auth.authenticator import Access, Caller, UnauthenticatedError
from shared.auth.rate import RateExceededError
from shared.auth.scopes import OutOfScopeError, RightMissingError
from shared.cache import Cache
from shared.contracts.errors import OverloadedError, RetryableError
from shared.contracts.outcome import Problem
from shared.rates import Rates
from shared.runtime.limits import CapacityLimit, network_of
from shared.runtime.ops import health_routes
from shared.runtime.readiness import Readiness
from shared.runtime.timeouts import Timeouts
from shared.submit.submitter import Submitter

VERSION: Final = "0.1.0"
_HEALTH_PATHS: Final = frozenset({"/livez", "/readyz"})
_DESCRIPTION: Final = (
    "Lands payment events in PostgreSQL, each exactly once. What is accepted is durable; what is refused is absent; "
    "repeating with the same id is always safe. Errors are [problem documents](/docs/problems)."
)


_Refusal: TypeAlias = HttpProblem | RetryableError | RightMissingError


class LedgerReader(Reader, Books, Protocol):
    """The ledger, as all questions see it."""


class Gateway(FastAPI):
    """FastAPI behind one entrance, with the two ingest doors before it.

    What an event would pass of the framework's layers does nothing for it, and cost 45 of 100 microseconds of a request
    (py-spy, 64 connections, 850 bytes): they stand where a request is not an event. The entrance is one layer and not
    one for each of its steps: of 34.6 microseconds in process, sockets and processor left out, those took 1.5.
    """

    def open_doors(
        self, doors: dict[str, ASGIApp], *, access: Access, hosts: Hosts | None, settings: GatewaySettings
    ) -> None:
        """Let POST requests for these paths pass to the doors, and everything else to the framework's routes."""
        self._doors = doors
        self._access = access
        self._hosts = hosts
        self._requests = CapacityLimit(settings.http_requests_max, share=settings.caller_share_max)
        self._pages = CapacityLimit(settings.http_pages_max, share=settings.caller_share_max)
        self._turns = Turns(
            settings.queries_max, share=settings.caller_share_max, seconds_max=settings.query_wait_seconds_max
        )
        rate = settings.rate_per_key if settings.queries_rate_per_key is None else settings.queries_rate_per_key
        self._query_rates = Rates(rate)
        self._timeouts = Timeouts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request: health always, documents and API requests where the caller's part of a limit allows it.

        The rest get 503 before anything of them is read. An API request needs a caller that may come in, or gets 401;
        what the caller may do is asked by who serves it.
        """
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        client = scope.get("client")
        peer = network_of(client[0]) if client else ""
        if not scope["path"].startswith(API_PREFIX):
            await self._serve_page(peer, scope, receive, send)
            return
        headers = read_headers(scope["headers"])
        door = self._doors.get(scope["path"]) if scope["method"] == "POST" else None
        caller: Caller | _Refusal
        try:
            caller = self._let_in(headers, peer, sends=door is not None)
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
                exchange = RequestStream(headers, receive, send, limits=REFUSED_LIMITS, timeouts=self._timeouts)
                await exchange.answer(error_response(caller))
                return
            scope[ADMITTED] = Admitted(headers, caller, counted_as)
            if door is None:
                await self._serve_query(counted_as, scope, receive, send)
            else:
                await door(scope, receive, send)
        finally:
            self._requests.release(counted_as)

    async def _serve_page(self, peer: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a document; health is small, and served always."""
        if scope["path"] in _HEALTH_PATHS:
            await super().__call__(scope, receive, send)
            return
        try:
            self._pages.acquire(peer)
        except OverloadedError as error:
            await send_response(send, error_response(error), close=True)
            return
        try:
            await super().__call__(scope, receive, sending_pieces(send))
        finally:
            self._pages.release(peer)

    async def _serve_query(self, counted_as: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a query once it is its turn; it is over when its answer is read."""
        try:
            self._query_rates.spend(counted_as)
            async with Turn(self._turns, counted_as):
                await super().__call__(scope, receive, sending_pieces(send))
        except RateExceededError as error:
            await send_response(send, error_response(rate_exceeded(error, what="queries")), close=True)
        except OverloadedError as error:
            # Raised by the turn alone: what the routes raise is answered by them.
            await send_response(send, error_response(error), close=True)

    def _let_in(self, headers: Headers, peer: str, *, sends: bool) -> Caller:
        """Return who sends a request from an address; `sends`: with events in it.

        Raises:
            HttpProblem: nobody that may, or it did not mean us. UnavailableError: nobody can be let in now.
            RightMissingError: the caller may not send.
        """
        if self._hosts is not None and (problem := self._hosts.problem_of(headers.host, headers.origin)):
            self._access.refusals.count("host" if problem is MISDIRECTED else "origin")
            raise refusal_of(problem)
        credentials = None if headers.authorization is None else text_of(headers.authorization)
        try:
            caller = self._access.admit(credentials, peer)
        except UnauthenticatedError as error:
            raise unauthenticated() from error
        if sends and not caller.may_send:
            caller.check_right("send")
        return caller


def build_app(  # noqa: PLR0913 - everything that a request meets
    *,
    submitter: Submitter,
    ledger: LedgerReader,
    lanes: Lanes,
    cache: Cache,
    readiness: Readiness,
    access: Access,
    settings: GatewaySettings,
) -> Gateway:
    """Return the application; nothing connects or starts here."""
    documented = not access.asks_for_keys if settings.http_docs is None else settings.http_docs
    app = Gateway(
        title="EtlPay",
        version=VERSION,
        description=_DESCRIPTION,
        docs_url=None,
        openapi_url="/openapi.json" if documented else None,
        redoc_url=None,
        redirect_slashes=False,
        openapi_tags=[{"name": "ingest", "description": "Send events"}, {"name": "queries", "description": "Ask"}],
    )
    doors: dict[str, ASGIApp] = {
        INGEST_PATH: IngestOne(submitter, cache, settings),
        BATCH_PATH: IngestBatch(submitter, cache, settings),
    }
    hosts = Hosts.from_settings(settings, asks_for_keys=access.asks_for_keys)
    app.open_doors(doors, access=access, hosts=hosts, settings=settings)
    # For the answers to other methods, and for whoever lists the routes.
    app.router.routes += [Route(path, door, methods=["POST"]) for path, door in doors.items()]
    app.include_router(query_router(Queries(ledger, cache)))
    app.include_router(audit_router(ledger, lanes, receipt_seconds=settings.receipt_seconds))
    app.router.routes += [*problem_routes(), *health_routes(readiness)]
    if documented:
        app.router.routes += document_routes("EtlPay")
    _answer_errors(app)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign] # the way FastAPI documents
    return app


def _answer_errors(app: FastAPI) -> None:
    handlers: dict[type[Exception], Callable[[Exception], HttpResponse]] = {
        RequestValidationError: _answer_validation,
        HttpProblem: _answer_ours,
        RetryableError: _answer_ours,
        RightMissingError: _answer_ours,
        OutOfScopeError: _answer_ours,
        Exception: lambda _: status_response(500),
    }
    for error_type, answer_of in handlers.items():
        app.add_exception_handler(error_type, _handler(answer_of))
    app.add_exception_handler(HTTPException, lambda request, error: _response(_answer_http(request, error)))


def _handler(answer_of: Callable[[Exception], HttpResponse]) -> Callable[[Request, Exception], Response]:
    return lambda _, error: _response(answer_of(error))


def _response(answer: HttpResponse) -> Response:
    return Response(answer.body, answer.status, dict(answer.headers), answer.media_type)


def _answer_ours(error: Exception) -> HttpResponse:
    if not isinstance(error, HttpProblem | RetryableError | RightMissingError | OutOfScopeError):
        raise error
    return error_response(error)


def _answer_http(request: Request, error: Exception) -> HttpResponse:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == NOT_FOUND.status:
        why = ": none has a slash at its end" if request.scope["path"].endswith("/") else ""
        return problem_response(NOT_FOUND, f"There is nothing at this path{why}. The paths are those of /openapi.json.")
    return status_response(error.status_code, tuple((error.headers or {}).items()))


def _answer_validation(error: Exception) -> HttpResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    problems = tuple(_parameter_problem(found["type"], found["loc"], found["msg"]) for found in error.errors())
    return problem_response(INVALID, "A parameter is not valid.", errors=problems)


def _parameter_problem(kind: str, place: tuple[str | int, ...], message: str) -> Problem:
    """Return the problem without what was sent: neither the value nor, of an unknown parameter, the name."""
    if kind == "extra_forbidden":
        return Problem(f"/{place[0]}", "has an unknown parameter")
    # What follows the comma in the parser's message may quote a character.
    detail = message.partition(",")[0] if kind == "uuid_parsing" else message.removeprefix("Value error, ")
    return Problem("/" + "/".join(map(str, place[:2])), detail)
