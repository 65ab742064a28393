"""FastAPI for everything but ingest: documents, health and queries. Its errors become problem documents."""

from collections.abc import Callable, Iterable
from typing import Final

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api_gateway.http.openapi import describe
from api_gateway.http.problems import INVALID, NOT_FOUND, HttpProblem, error_response, problem_response, status_response
from api_gateway.schemas import HttpResponse
from shared.auth.scopes import OutOfScopeError, RightMissingError
from shared.contracts.errors import Problem, RetryableError

VERSION: Final = "0.1.0"
_DESCRIPTION: Final = (
    "Lands payment events in PostgreSQL, each exactly once. What is accepted is durable; what is refused is absent; "
    "repeating with the same id is always safe. Errors are [problem documents](/docs/problems)."
)
_TAGS: Final = [{"name": "ingest", "description": "Send events"}, {"name": "queries", "description": "Ask"}]


def build_framework(routers: Iterable[APIRouter], routes: Iterable[BaseRoute], *, documented: bool) -> FastAPI:
    """Return FastAPI with these routes; `documented` says whether it serves /openapi.json."""
    api = FastAPI(
        title="EtlPay",
        version=VERSION,
        description=_DESCRIPTION,
        docs_url=None,
        openapi_url="/openapi.json" if documented else None,
        redoc_url=None,
        redirect_slashes=False,
        openapi_tags=_TAGS,
    )
    for router in routers:
        api.include_router(router)
    api.router.routes += routes
    for error_type in (HttpProblem, RetryableError, RightMissingError, OutOfScopeError):
        api.add_exception_handler(error_type, _handler(_answer_ours))
    api.add_exception_handler(RequestValidationError, _handler(_answer_validation))
    api.add_exception_handler(Exception, _handler(lambda _: status_response(500)))
    api.add_exception_handler(HTTPException, lambda request, error: _response(_answer_http(request, error)))
    api.openapi = lambda: describe(api)  # type: ignore[method-assign] # the way FastAPI documents
    return api


def _handler(answer: Callable[[Exception], HttpResponse]) -> Callable[[Request, Exception], Response]:
    return lambda _, error: _response(answer(error))


def _response(response: HttpResponse) -> Response:
    return Response(response.body, response.status, dict(response.headers), response.media_type)


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


def _parameter_problem(error_type: str, place: tuple[str | int, ...], message: str) -> Problem:
    """Return the problem without what was sent: neither the value nor the name of an unknown parameter."""
    if error_type == "extra_forbidden":
        return Problem(f"/{place[0]}", "has an unknown parameter")
    # What follows the comma in the parser's message may quote a character.
    detail = message.partition(",")[0] if error_type == "uuid_parsing" else message.removeprefix("Value error, ")
    return Problem("/" + "/".join(map(str, place[:2])), detail)
