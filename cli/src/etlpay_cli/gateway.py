"""Asks the gateway what a command shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import httpx2
import msgspec

from etlpay_cli.audit import connect_to
from etlpay_cli.errors import UNAVAILABLE, USAGE, StackError

if TYPE_CHECKING:
    from collections.abc import Mapping

_Answer = TypeVar("_Answer")

_NOT_FOUND: Final = "there is none of this name, or the API key is not for all of its sources"
_REFUSED: Final[dict[int, str]] = {
    httpx2.codes.UNAUTHORIZED: "the gateway asks for an API key: set ETLPAY_API_KEY",
    httpx2.codes.FORBIDDEN: "the API key may not read",
}


async def ask(url: str, api_key: str, path: str, parameters: Mapping[str, str | int], answer: type[_Answer]) -> _Answer:
    """Return what the gateway answers.

    Raises:
        StackError: what is asked for is not there or is none (usage), or the gateway cannot answer now.
    """
    try:
        async with connect_to(url, api_key) as http:
            response = await http.get(path, params=dict(parameters))
        if response.status_code == httpx2.codes.OK:
            return msgspec.json.decode(response.content, type=answer)
    except httpx2.HTTPError as error:
        message = f"the gateway cannot be reached ({type(error).__name__})"
        raise StackError(message, exit_code=UNAVAILABLE) from error
    except msgspec.DecodeError as error:
        raise StackError(f"GET {path} answered something else", exit_code=UNAVAILABLE) from error
    raise _refusal(path, response.status_code)


def _refusal(path: str, status: int) -> StackError:
    if status == httpx2.codes.NOT_FOUND:
        return StackError(_NOT_FOUND, exit_code=USAGE)
    if status in _REFUSED:
        return StackError(_REFUSED[status], exit_code=USAGE)
    if status == httpx2.codes.UNPROCESSABLE_CONTENT:
        return StackError(f"GET {path}: a name or a number is none", exit_code=USAGE)
    return StackError(f"GET {path} answered {status}", exit_code=UNAVAILABLE)
