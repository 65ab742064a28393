"""The HTTP server on a real socket: TLS, certificates of clients, API keys."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from api_gateway.service import serve, server_config
from api_gateway.settings import GatewaySettings
from shared.auth.authenticator import Access
from shared.auth.keys import generate_key
from shared.contracts.errors import FatalError
from shared.runtime.ops import HttpServer
from shared.runtime.service import running
from support.gateway import run_gateway
from support.keys import write_keys
from support.tls import Certificates

EVENT = {"source_name": "shop", "payload": {"value": 1}}
KEY = generate_key()


@asynccontextmanager
async def run_api(access: Access | None = None, tls: dict[str, str] | None = None) -> AsyncIterator[int]:
    """Serve over fakes; yield the port."""
    async with run_gateway(access=access) as gateway:
        config = server_config(gateway.app, GatewaySettings(http_port=0, **(tls or {})))  # type: ignore[arg-type]  # settings of any type
        async with running(HttpServer(config)) as server:
            while server.port is None:  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.01)
            yield server.port


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


async def test_an_event_is_stored_over_tls_and_nothing_is_spoken_in_the_clear(certificates: Certificates) -> None:
    context = certificates.context()
    async with run_api(tls=certificates.settings()) as port, httpx2.AsyncClient(verify=context) as client:
        answer = await client.post(f"https://127.0.0.1:{port}/api/ingest", json=EVENT)
        with pytest.raises(httpx2.TransportError):
            await client.post(f"http://127.0.0.1:{port}/api/ingest", json=EVENT)

    assert answer.status_code == 201


async def test_a_client_that_does_not_trust_the_certificate_sends_nothing(certificates: Certificates) -> None:
    async with run_api(tls=certificates.settings()) as port, httpx2.AsyncClient() as client:
        with pytest.raises(httpx2.ConnectError, match="certificate"):
            await client.post(f"https://127.0.0.1:{port}/api/ingest", json=EVENT)


async def test_a_client_without_a_certificate_is_turned_away_where_one_is_asked_for(certificates: Certificates) -> None:
    async with run_api(tls=certificates.settings(clients=True)) as port:
        url = f"https://127.0.0.1:{port}/api/ingest"
        async with httpx2.AsyncClient(verify=certificates.context()) as client:
            with pytest.raises(httpx2.TransportError):
                await client.post(url, json=EVENT)
        async with httpx2.AsyncClient(verify=certificates.context(with_certificate=True)) as client:
            answer = await client.post(url, json=EVENT)

    assert answer.status_code == 201


async def test_a_large_request_without_a_key_reads_its_401(tmp_path: Path) -> None:
    """The rest of the body is read and dropped, so that the answer is not lost with the connection."""
    access = Access(write_keys(tmp_path / "keys.toml", (KEY, "shop", "*")))
    async with run_api(access) as port, httpx2.AsyncClient() as client:
        answers = [
            await client.post(f"http://127.0.0.1:{port}{path}", content=b"x" * size)
            for path in ("/api/ingest", "/api/ingest/batch")
            for size in (0, 1_000, 8_000_000)
        ]

    assert {answer.status_code for answer in answers} == {401}


async def test_keys_are_exchanged_while_the_server_runs(tmp_path: Path) -> None:
    new = generate_key()
    path = write_keys(tmp_path / "keys.toml", (KEY, "shop", "*"))
    async with run_api(Access(path)) as port, httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:

        async def status(key: str) -> int:
            return (
                await client.post("/api/ingest", json=EVENT, headers={"Authorization": f"Bearer {key}"})
            ).status_code

        before = await status(KEY), await status(new)
        write_keys(path, (new, "shop", "*"))
        await asyncio.sleep(1.1)
        after = await status(KEY), await status(new)

    assert (before, after) == ((201, 401), (401, 201))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"http_host": "0.0.0.0"}, "ETLPAY_ALLOW_ANONYMOUS"),  # noqa: S104 - what must be refused
        ({"api_keys_file": "/nowhere"}, "API keys"),
        ({"tls_cert_file": "/nowhere", "tls_key_file": "/nowhere"}, "TLS"),
    ],
)
async def test_the_service_does_not_start_open_to_the_network_or_without_its_files(
    settings: dict[str, str], reason: str
) -> None:
    stopping = asyncio.Event()
    chosen = GatewaySettings(http_port=0, **settings)  # type: ignore[arg-type]  # settings of any type

    with pytest.RaisesGroup(FatalError, flatten_subgroups=True, allow_unwrapped=True) as refusal:
        async with asyncio.timeout(20):
            await serve(chosen, stopping)

    assert reason in str(refusal.value.exceptions if isinstance(refusal.value, ExceptionGroup) else refusal.value)
