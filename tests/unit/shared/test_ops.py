"""The operator's endpoint tells whether a service lives, whether it is ready, and what it lacks."""

import asyncio

import httpx2
import pytest
from starlette.applications import Starlette

from shared.runtime.ops import ops_routes
from shared.runtime.readiness import Readiness


async def ask(readiness: Readiness, path: str) -> httpx2.Response:
    """Return the endpoint's answer, without a socket."""
    transport = httpx2.ASGITransport(app=Starlette(routes=ops_routes(readiness)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get(path)


async def test_a_service_lives_whatever_it_lacks() -> None:
    answer = await ask(Readiness("postgres"), "/livez")

    assert (answer.status_code, answer.text) == (200, "ok\n")


async def test_what_was_never_said_to_be_there_is_missing() -> None:
    readiness = Readiness("postgres", "rabbitmq")
    readiness.set("postgres", present=True)

    answer = await ask(readiness, "/readyz?verbose")

    assert answer.status_code == httpx2.codes.SERVICE_UNAVAILABLE
    assert answer.headers["Retry-After"] == "1"
    assert answer.json() == {"status": "not ready", "dependencies": {"postgres": "ok", "rabbitmq": "missing"}}


async def test_a_service_is_ready_without_what_is_optional_and_not_without_what_is_needed() -> None:
    readiness = Readiness("postgres")
    readiness.set("postgres", present=True)
    readiness.set_optional("redis", present=False)

    with_postgres = await ask(readiness, "/readyz?verbose")
    readiness.set("postgres", present=False)
    without = await ask(readiness, "/readyz")

    assert with_postgres.status_code == httpx2.codes.OK
    assert with_postgres.json()["dependencies"] == {"postgres": "ok", "redis": "missing (optional)"}
    assert without.status_code == httpx2.codes.SERVICE_UNAVAILABLE
    assert without.json() == {"status": "not ready"}


async def test_a_service_that_drains_is_not_ready() -> None:
    stopping = asyncio.Event()
    readiness = Readiness(stopping=stopping)
    assert readiness.ready

    stopping.set()

    assert (await ask(readiness, "/readyz")).status_code == httpx2.codes.SERVICE_UNAVAILABLE


@pytest.mark.parametrize("name", ["python_info", "process_"])
async def test_metrics_are_prometheus_text(name: str) -> None:
    answer = await ask(Readiness(), "/metrics")

    assert answer.headers["Content-Type"].startswith("text/plain")
    assert name in answer.text
