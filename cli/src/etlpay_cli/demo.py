"""The live demo: one event through each channel, the answer to each, and its record. It uses public interfaces only."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio
import httpx2
import msgspec

from etlpay_cli.errors import UNAVAILABLE, StackError
from etlpay_client import QueueClient, QueueClientError, etlpay_pb2, etlpay_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from etlpay_cli.addresses import Addresses

DEMO_SOURCES: Final = {
    "http": "manual-demo",
    "grpc": "grpc-demo",
    "file": "file-worker-demo",
    "queue": "queue-worker-demo",
}
_STORED_SECONDS_MAX: Final = 30.0
_POLL_SECONDS: Final = 0.2
_CALL_SECONDS_MAX: Final = 10.0
_PAGE: Final = 100


@dataclass(kw_only=True, slots=True)
class DemoEvent:
    """One event of the demo: what was sent, the answer, and the record or what went wrong."""

    channel: str
    source: str
    payload: dict[str, Any]
    answer: str = ""
    problem: str = ""
    record: dict[str, Any] | None = field(default=None)


class Demo:
    """One run of the demo against the stack at `addresses`."""

    def __init__(self, addresses: Addresses, http: httpx2.AsyncClient, api_key: str = "") -> None:
        """Prepare; nothing is sent."""
        self._authorization = _authorization(api_key)
        self._addresses = addresses
        self._http = http

    async def events(self) -> AsyncIterator[DemoEvent]:
        """Send one event after the other and yield each when it is stored, or when it is clear that it is not."""
        senders: dict[str, Callable[[DemoEvent], Awaitable[str]]] = {
            "http": self._send_http,
            "grpc": self._send_grpc,
            "file": self._send_file,
            "queue": self._send_queue,
        }
        for number, (channel, send) in enumerate(senders.items(), start=1):
            source = DEMO_SOURCES[channel]
            # The mark tells this run's event from those of earlier runs.
            event = DemoEvent(channel=channel, source=source, payload={"value": number, "demo": uuid.uuid4().hex})
            try:
                event.answer = await send(event)
                event.record = await self._find_record(event)
                event.problem = "" if event.record else f"not stored within {_STORED_SECONDS_MAX:.0f} seconds"
            except (httpx2.HTTPError, grpc.RpcError, QueueClientError, OSError, ExceptionGroup) as error:
                event.problem = f"{type(error).__name__}: {_say(error)}"
            yield event

    async def sources(self) -> list[dict[str, Any]]:
        """Return what GET /api/sources answers, all of its pages. Raises StackError when there is no answer."""
        sources: list[dict[str, Any]] = []
        query: dict[str, str | int] = {"limit": _PAGE}
        while True:
            try:
                page = _page(await self._http.get("/api/sources", params=query))
            except httpx2.HTTPError as error:
                reason = f"the gateway cannot be reached ({type(error).__name__})"
                raise StackError(reason, exit_code=UNAVAILABLE) from error
            sources += page["items"]
            if page["next"] is None:
                return sources
            query["cursor"] = page["next"]

    async def _send_http(self, event: DemoEvent) -> str:
        body = {"source_name": event.source, "payload": event.payload}
        response = await self._http.post("/api/ingest", content=msgspec.json.encode(body), headers=_JSON)
        return f"{response.status_code} {response.text.strip()}"

    async def _send_grpc(self, event: DemoEvent) -> str:
        async with grpc.aio.insecure_channel(self._addresses.grpc) as rpc_channel:
            stub = etlpay_pb2_grpc.EtlServiceStub(rpc_channel)
            payload = msgspec.json.encode(event.payload).decode()
            request = etlpay_pb2.IngestRequest(source_name=event.source, payload_json=payload)
            response = await stub.Ingest(
                request, timeout=_CALL_SECONDS_MAX, metadata=tuple(self._authorization.items())
            )
        return f"OK id={response.id} status={response.status} event_id={response.event_id}"

    async def _send_file(self, event: DemoEvent) -> str:
        """Drop a file the safe way: written beside the inbox, then moved in whole."""
        return await asyncio.to_thread(drop_file, Path(self._addresses.inbox), event)

    async def _send_queue(self, event: DemoEvent) -> str:
        client = QueueClient(self._addresses.amqp)
        await client.publish("etl-queue", event.payload, source=event.source)
        return "confirmed by the broker"

    async def _find_record(self, event: DemoEvent) -> dict[str, Any] | None:
        """Return the event's record as soon as it is stored, or None when its time is up."""
        newest: dict[str, str | int] = {"source": event.source, "limit": _PAGE}
        deadline = asyncio.get_running_loop().time() + _STORED_SECONDS_MAX
        while asyncio.get_running_loop().time() < deadline:
            page = _page(await self._http.get("/api/processed-records", params=newest))
            records: list[dict[str, Any]] = page["items"]
            found = [record for record in records if record["result_payload"] == event.payload]
            if found:
                return found[0]
            await asyncio.sleep(_POLL_SECONDS)
        return None


_JSON: Final = {"Content-Type": "application/json"}


def drop_file(inbox: Path, event: DemoEvent) -> str:
    """Put one file with the event into the inbox of its source."""
    folder = inbox / event.source
    folder.mkdir(exist_ok=True)
    name = f"demo-{event.payload['demo']}.json"
    unfinished = inbox.parent / f".{name}"
    unfinished.write_bytes(msgspec.json.encode(event.payload))
    unfinished.rename(folder / name)
    return f"dropped {folder / name}"


def connect(addresses: Addresses, api_key: str = "") -> httpx2.AsyncClient:
    """Return a client of the gateway."""
    return httpx2.AsyncClient(base_url=addresses.http, timeout=_CALL_SECONDS_MAX, headers=_authorization(api_key))


def _authorization(api_key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {api_key}"} if api_key else {}


def _page(response: httpx2.Response) -> dict[str, Any]:
    """Return one page of rows. Raises StackError when the answer is none."""
    if response.status_code != httpx2.codes.OK:
        raise StackError(f"GET {response.url.path} answered {response.status_code}", exit_code=UNAVAILABLE)
    page: dict[str, Any] = msgspec.json.decode(response.content)
    return page


def _say(error: Exception) -> str:
    return str(error.details()) if isinstance(error, grpc.aio.AioRpcError) else str(error)
