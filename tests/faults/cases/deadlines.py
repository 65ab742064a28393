"""RabbitMQ and PostgreSQL freeze together: each caller hears in time when to come again."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import grpc
import httpx2
import msgspec
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

from etlpay_client import etlpay_pb2 as pb
from etlpay_client.etlpay_pb2_grpc import EtlServiceStub
from faults.harness.case import Case, Context
from faults.harness.deadlines import ANSWER_SECONDS_MAX, CLIENT_SECONDS_MAX
from faults.harness.journal import Attempt, Sent
from faults.harness.producers import GrpcProducer, HttpProducer
from faults.harness.world import HOST

# Longer than the longest answer may take, so that no answer comes from a server that runs again.
_FROZEN_SECONDS: Final = ANSWER_SECONDS_MAX + 3.0
_BATCH: Final = 5
_PREFERENCES: Final = ("respond-async", "wait")
_Call = Callable[[str], Awaitable[str]]
"""Takes the preference of a caller. Returns what is wrong with the answer, or nothing."""
_PUT_OFF: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


class _Probes:
    """Calls that can end one way only; afterwards their events are sent like all others."""

    def __init__(self, context: Context, client: httpx2.AsyncClient, stub: EtlServiceStub) -> None:
        self.over_http: list[Sent] = []
        self.over_grpc: list[Sent] = []
        self.put_off = 0
        self._context = context
        self._client = client
        self._stub = stub

    def calls(self) -> list[Awaitable[None]]:
        """Return one call of each kind, for callers who wait and for callers who do not."""
        kinds = (self._http, self._http_batch, self._grpc, self._grpc_batch)
        return [self._in_time(kind, preference) for kind in kinds for preference in _PREFERENCES]

    async def _in_time(self, call: _Call, preference: str) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                wrong = await call(preference)
        except TimeoutError:
            wrong = "no answer in time"
        if wrong:
            self._context.problems.append(f"while nothing can be stored, {call.__name__.strip('_')}: {wrong}")
        self.put_off += not wrong

    async def _http(self, preference: str) -> str:
        [document] = self._documents(1)
        headers = {"Content-Type": "application/json", "Prefer": preference}
        answer = await self._client.post("/api/ingest", content=document, headers=headers)
        return _not_put_off(answer)

    async def _http_batch(self, preference: str) -> str:
        headers = {"Content-Type": "application/x-ndjson", "Prefer": preference}
        answer = await self._client.post(
            "/api/ingest/batch", content=b"\n".join(self._documents(_BATCH)), headers=headers
        )
        if answer.status_code != 200:
            return _not_put_off(answer)
        statuses = {result["status"] for result in msgspec.json.decode(answer.content)["results"]}
        return "" if statuses == {"UNKNOWN"} else f"answered {statuses}"

    async def _grpc(self, preference: str) -> str:
        [request] = self._requests(1)
        try:
            answer = await self._stub.Ingest(request, timeout=CLIENT_SECONDS_MAX, metadata=(("prefer", preference),))
        except grpc.aio.AioRpcError as error:
            return _says_when(error)
        return f"answered {answer.status}"

    async def _grpc_batch(self, preference: str) -> str:
        batch = pb.IngestBatchRequest(requests=self._requests(_BATCH))
        try:
            answer = await self._stub.IngestBatch(batch, timeout=CLIENT_SECONDS_MAX, metadata=(("prefer", preference),))
        except grpc.aio.AioRpcError as error:
            return _says_when(error)
        statuses = {response.status for response in answer.responses}
        return "" if statuses == {"UNKNOWN"} else f"answered {statuses}"

    def _documents(self, count: int) -> list[bytes]:
        sent = [self._context.load.journal.new("http") for _ in range(count)]
        self.over_http += sent
        return [
            f'{{"source_name": "{each.source}", "id": "{each.key}", "payload": '.encode() + each.first.body + b"}"
            for each in sent
        ]

    def _requests(self, count: int) -> list[pb.IngestRequest]:
        sent = [self._context.load.journal.new("grpc") for _ in range(count)]
        self.over_grpc += sent
        return [
            pb.IngestRequest(source_name=each.source, id=each.key, payload_json=each.first.body.decode())
            for each in sent
        ]


def _not_put_off(answer: httpx2.Response) -> str:
    later = answer.status_code == 503 and "retry-after" in answer.headers
    return "" if later else f"HTTP {answer.status_code}, Retry-After: {answer.headers.get('retry-after')}"


def _says_when(error: grpc.aio.AioRpcError) -> str:
    status = rpc_status.from_call(error)
    when = status is not None and any(detail.Is(RetryInfo.DESCRIPTOR) for detail in status.details)
    return "" if error.code() in _PUT_OFF and when else f"gRPC {error.code().name}, RetryInfo: {when}"


async def _all_frozen(context: Context) -> bool:
    world = context.world
    address = f"http://{HOST}:{world.ports['http']}"
    async with (
        httpx2.AsyncClient(base_url=address, timeout=CLIENT_SECONDS_MAX) as client,
        grpc.aio.insecure_channel(f"{HOST}:{world.ports['grpc']}") as channel,
    ):
        probes = _Probes(context, client, EtlServiceStub(channel))
        await context.moment()
        with context.child("rabbitmq").frozen() as broker_is, context.child("postgres").frozen() as database_is:
            await asyncio.gather(asyncio.sleep(_FROZEN_SECONDS), *probes.calls())
            stood_still = broker_is() and database_is()
    for maker, events in ((HttpProducer, probes.over_http), (GrpcProducer, probes.over_grpc)):
        async with maker(context.load) as producer:
            await producer.insist([Attempt(sent, sent.first) for sent in events])
    return stood_still and probes.put_off > 0


CASES: Final = [Case(f"broker and PostgreSQL frozen together for {_FROZEN_SECONDS:.0f} s", _all_frozen)]
