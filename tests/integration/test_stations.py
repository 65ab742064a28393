"""ARCHITECTURE.md names the modules that one event of each channel meets; here one event meets them."""

import asyncio
import re
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aio_pika
import asyncpg
import grpc.aio
import httpx2
import pytest

import api_gateway.service
import api_gateway.settings
import file_watcher.service
import file_watcher.settings
import grpc_ingest.service
import grpc_ingest.settings
import processor.service
import queue_consumer.service
import queue_consumer.settings
from etlpay_client import etlpay_pb2, etlpay_pb2_grpc
from processor.settings import ProcessorSettings
from support.amqp import publish
from support.servers import CHECKOUT, ROLE_PASSWORD, Servers, free_ports
from support.stack import until
from support.stations import Trace
from support.watcher import drop

SERVICES: dict[str, tuple[Callable[[Any, asyncio.Event], Coroutine[Any, Any, None]], Any]] = {
    "HTTP": (api_gateway.service.serve, api_gateway.settings.GatewaySettings),
    "gRPC": (grpc_ingest.service.serve, grpc_ingest.settings.Settings),
    "File": (file_watcher.service.serve_inbox, file_watcher.settings.Settings),
    "Queue": (queue_consumer.service.serve, queue_consumer.settings.Settings),
}
TRANSPORTS = {"HTTP": "By gRPC", "gRPC": "By gRPC", "File": "By RabbitMQ", "Queue": "By RabbitMQ"}
MODULES_MAX = 18
FORMS_MAX = 12


class Channel:
    """An edge service and the processor in this process, and who sends through them."""

    def __init__(self, name: str, servers: Servers, root: Path, ledger: asyncpg.Connection) -> None:
        self.name = name
        self._servers = servers
        self._root = root
        self._ledger = ledger
        self.port, self.processing_port = free_ports(2)
        self.stopping = asyncio.Event()

    def settings(self) -> dict[str, Any]:
        return {
            "_env_file": None,
            "amqp_url": f"amqp://operator@{self._servers.amqp_host}:{self._servers.amqp_port}/",
            "amqp_password": self._servers.amqp_password,
            "postgres_url": self._servers.postgres_url("etlpay_reader"),
            "postgres_password": ROLE_PASSWORD,
            "processor_target": f"127.0.0.1:{self.processing_port}",
            "http_port": self.port,
            "grpc_port": self.port,
            "ops_port": 0,
            "files_root": self._root,
            "files_scan_seconds": 0.2,
            "files_settle_seconds": 0.2,
        }

    async def land(self, mark: str) -> None:
        """Send an event whose payload holds `mark`; return when it is in the ledger."""
        await {"HTTP": self._post, "gRPC": self._call, "File": self._drop, "Queue": self._publish}[self.name](mark)
        query = "SELECT count(*) FROM raw_events WHERE position(convert_to($1, 'UTF8') IN body) > 0"
        assert await until(lambda: self._ledger.fetchval(query, mark), lambda count: count == 1)

    async def _post(self, mark: str) -> None:
        async with httpx2.AsyncClient() as client:
            event = {"source_name": "stations", "payload": {"value": mark}}
            answer = await client.post(f"http://127.0.0.1:{self.port}/api/ingest", json=event)
        assert answer.status_code == 201, answer.text

    async def _call(self, mark: str) -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as connected:
            request = etlpay_pb2.IngestRequest(source_name="stations", payload_json=f'{{"value": "{mark}"}}')
            response = await etlpay_pb2_grpc.EtlServiceStub(connected).Ingest(request, wait_for_ready=True)
        assert response.status == "SUCCESS"

    async def _drop(self, mark: str) -> None:
        drop(self._root, f"{uuid.uuid4()}.ndjson", f'{{"id": "{uuid.uuid4()}", "value": "{mark}"}}\n'.encode())

    async def _publish(self, mark: str) -> None:
        message = aio_pika.Message(f'{{"value": "{mark}"}}'.encode(), headers={"id": str(uuid.uuid4())})
        await publish(self._servers.amqp_url, [message])


@asynccontextmanager
async def running(name: str, servers: Servers, root: Path, ledger: asyncpg.Connection) -> AsyncIterator[Channel]:
    """Run both services until the block ends; whatever is done once only was done for an event of before."""
    channel = Channel(name, servers, root, ledger)
    serve, settings = SERVICES[name]
    processing = {
        "postgres_url": servers.postgres_url("etlpay_processor"),
        "processing_port": channel.processing_port,
    }
    async with asyncio.TaskGroup() as group:
        group.create_task(
            processor.service.serve(ProcessorSettings(**channel.settings() | processing), channel.stopping)
        )
        group.create_task(serve(settings(**channel.settings()), channel.stopping))
        await _until_landed(channel)
        yield channel
        channel.stopping.set()


async def _until_landed(channel: Channel) -> None:
    while True:
        try:
            return await channel.land(uuid.uuid4().hex)
        except (AssertionError, OSError, httpx2.TransportError, grpc.aio.AioRpcError, aio_pika.exceptions.AMQPError):
            await asyncio.sleep(0.1)


@asynccontextmanager
async def traced(name: str, servers: Servers, root: Path, ledger: asyncpg.Connection) -> AsyncIterator[Trace]:
    """Yield the trace of one event of a channel."""
    trace = Trace(mark := uuid.uuid4().hex)
    threading.setprofile(trace.note)
    try:
        async with running(name, servers, root, ledger) as channel:
            sys.setprofile(trace.note)
            await channel.land(mark)
            sys.setprofile(None)
    finally:
        threading.setprofile(None)
        sys.setprofile(None)
        trace.release()
    yield trace


def table(section: str) -> dict[str, tuple[str, set[str]]]:
    """Return a section's modules, each with a function of it and the forms that the event has there."""
    page = (CHECKOUT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    block = page.partition(f"**{section}**")[2].partition("```\n")[2].partition("```")[0]
    lines = (re.split(r"  +", line) for line in block.splitlines())
    return {file: (function, set(forms.split(", "))) for file, function, forms in lines}


@pytest.mark.parametrize("name", SERVICES)
async def test_an_event_meets_the_modules_of_the_architecture_page(
    name: str, servers: Servers, tmp_path: Path, owner: asyncpg.Connection
) -> None:
    described = table(name) | table(TRANSPORTS[name]) | table("Ledger")
    functions = {f"{file}: {function}" for file, (function, _) in described.items()}
    forms = set[str]().union(*(found for _, found in described.values()))

    async with traced(name, servers, tmp_path, owner) as trace:
        met = {f"{file}: {function}" for file, found in trace.stations.items() for function in found}
        rooms = trace.rooms("file_watcher")

    assert trace.committed
    assert set(trace.stations) == set(described)
    assert functions <= met
    assert {form for form in forms if form[0].isupper()} == trace.forms
    assert len(rooms) == len(set(rooms)), "a row came back to a room that it had left"


def test_an_http_event_meets_few_modules_in_few_forms() -> None:
    described = table("HTTP") | table("By gRPC") | table("Ledger")

    assert len(described) <= MODULES_MAX
    assert len(set[str]().union(*(forms for _, forms in described.values()))) <= FORMS_MAX
