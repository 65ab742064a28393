"""Asks EtlPay's HTTP API. It needs the extra `http`: `pip install './client[http]'`.

`HttpClient` is for asyncio:

```python
async with HttpClient("https://gateway.example", api_key="etlp_...") as http:
    body = await http.get("/api/sources", {"limit": 10})
```

Without asyncio the same parts serve `httpx2.Client`:

```python
with httpx2.Client(**connection_options("https://gateway.example")) as http, translate_errors():
    body = body_of(http.get("/api/sources"))
```

Problems become ApiError, and ApiUnavailableError where the same request may succeed later.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Self

import httpx2
import msgspec

from etlpay_client.errors import ApiError, ApiUnavailableError
from etlpay_client.settings import api_key as api_key_of_environment

LOCAL_URL: Final = "http://127.0.0.1:8000"
SECONDS_MAX: Final = 30.0

_LATER: Final = frozenset({408, 429, 502, 503, 504})


class _Problem(msgspec.Struct):
    """What is read of problem details (RFC 9457)."""

    type: str = ""
    detail: str = ""


class HttpClient:
    """Asks the API; the connections stay open until `close`, or the end of `async with`."""

    def __init__(self, url: str = LOCAL_URL, *, api_key: str | None = None, seconds_max: float = SECONDS_MAX) -> None:
        """Connect nowhere yet; the parameters are those of `connection_options`."""
        self._http = httpx2.AsyncClient(**connection_options(url, api_key=api_key, seconds_max=seconds_max))

    async def get(self, path: str, parameters: Mapping[str, str | int | None] | None = None) -> bytes:
        """Return the body of a success. `parameters` are those of the query; None: not given.

        Raises:
            ApiUnavailableError: not now. ApiError: the API refuses this request.
        """
        given = {name: value for name, value in (parameters or {}).items() if value is not None}
        with translate_errors():
            return body_of(await self._http.get(path, params=given))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self.close()


def connection_options(
    url: str = LOCAL_URL, *, api_key: str | None = None, seconds_max: float = SECONDS_MAX
) -> dict[str, Any]:
    """Return the options of `httpx2.Client` and `httpx2.AsyncClient` for the API at `url`.

    Without an `api_key` the one in `ETLPAY_API_KEY` is sent, or none where that is not set. `seconds_max` limits each
    wait for the server.
    """
    key = api_key_of_environment() if api_key is None else api_key
    return {
        "base_url": url,
        "headers": {"authorization": f"Bearer {key}"} if key else {},
        "timeout": seconds_max,
    }


def body_of(response: httpx2.Response) -> bytes:
    """Return the body of a success. Raises ApiUnavailableError (not now) or ApiError."""
    if response.is_success:
        return response.content
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
    except msgspec.DecodeError:
        problem = _Problem()
    name = problem.type.rpartition("#")[2]
    detail = problem.detail or response.reason_phrase
    if response.status_code in _LATER:
        after = response.headers.get("retry-after", "")
        raise ApiUnavailableError(
            response.status_code, name, detail, retry_after_seconds=float(after) if after.isdecimal() else None
        )
    raise ApiError(response.status_code, name, detail)


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise ApiUnavailableError where the API cannot be reached or does not answer in time."""
    try:
        yield
    except httpx2.TransportError as error:
        raise ApiUnavailableError(None, "", f"the API cannot be reached ({type(error).__name__})") from error
