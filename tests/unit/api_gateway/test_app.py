"""Which endpoint serves a path."""

import httpx2
import pytest
from starlette.responses import PlainTextResponse

from api_gateway.app import Gateway
from api_gateway.http.framework import build_framework
from api_gateway.settings import GatewaySettings
from shared.auth.authenticator import Access


def _nothing(*_: object) -> None:
    """Serve no event that came as a whole: they come over the protocol."""


@pytest.mark.parametrize(
    ("method", "path", "served_by"),
    [
        ("POST", "/api/hooks/one", "hooks"),
        ("POST", "/api/hooks/one/two", "hooks"),
        ("POST", "/api/hooks", None),
        ("GET", "/api/hooks/one", None),
        ("POST", "/api/other", "other"),
        ("POST", "/api/other/one", None),
    ],
)
async def test_a_path_that_ends_with_a_slash_stands_for_all_below_it(
    method: str, path: str, served_by: str | None
) -> None:
    endpoints = {"/api/hooks/": PlainTextResponse("hooks"), "/api/other": PlainTextResponse("other")}
    framework = build_framework([], [], documented=False)
    settings = GatewaySettings(_env_file=None)
    app = Gateway(framework, endpoints, ingest=_nothing, access=Access(None), hosts=None, settings=settings)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost") as client:
        answer = await client.request(method, path)

    assert (answer.text if answer.status_code == 200 else None) == served_by
