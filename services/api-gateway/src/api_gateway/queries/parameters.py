"""What the routes of several queries share: who calls, cursors, and checks of parameters."""

import base64
from typing import Annotated, Final, TypeVar

import msgspec
from fastapi import Depends, Request, Response
from pydantic import AwareDatetime, BeforeValidator

from api_gateway.http.problems import INVALID, HttpProblem
from api_gateway.http.request import admitted
from shared.auth.authenticator import Caller
from shared.contracts.errors import Problem
from shared.contracts.event import source_problem
from shared.contracts.moment import read_moment_of_query


class Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The last item of a page, after which the next one begins. Each query has a subclass with its own tag."""

    def encode(self) -> str:
        """Return the cursor as clients get it: an opaque text."""
        return base64.urlsafe_b64encode(msgspec.msgpack.encode(self)).decode().rstrip("=")


AnyCursor = TypeVar("AnyCursor", bound=Cursor)


def read_cursor(text: str | None, cursor_type: type[AnyCursor], *, parameter: str = "cursor") -> AnyCursor | None:
    """Return the cursor in a request; None where there is none. Raises HttpProblem: it is not one of this query."""
    if text is None:
        return None
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return msgspec.msgpack.decode(packed, type=cursor_type)
    except (ValueError, msgspec.DecodeError) as error:
        problem = Problem(f"/query/{parameter}", "must be `next` of a page before")
        raise HttpProblem(INVALID, "The cursor is not one of ours.", errors=[problem]) from error


def valid_source(name: str) -> str:
    """Return the name of a source. Raises ValueError if it cannot be one."""
    if problem := source_problem(name):
        raise ValueError(problem)
    return name


def _reader(request: Request) -> Caller:
    """Return the caller. Raises RightMissingError."""
    caller = admitted(request.scope).caller
    caller.check_right("read")
    return caller


NAME: Final = "^[a-z][a-z0-9_]*$"
"""Names of pipelines, tables, and views of totals."""

Reader = Annotated[Caller, Depends(_reader)]
Moment = Annotated[AwareDatetime, BeforeValidator(read_moment_of_query)]


def json_response(schema: msgspec.Struct) -> Response:
    """Return a response with this body."""
    return Response(msgspec.json.encode(schema), media_type="application/json")
