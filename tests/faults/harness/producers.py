"""Producers for the four channels: each sends events once, and learns the answers."""

import asyncio
import contextlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Self

import aio_pika
import aiormq
import grpc.aio
import httpx2
import msgspec

from etlpay_client import QueueClient, QueueClientError
from etlpay_client import etlpay_pb2 as pb
from etlpay_client.etlpay_pb2_grpc import EtlServiceStub
from faults.harness.deadlines import CLIENT_SECONDS_MAX, timed
from faults.harness.drop import drop
from faults.harness.journal import Answer, Attempt, Sent
from faults.harness.world import HOST
from support.waiting import until_true

if TYPE_CHECKING:
    from faults.harness.load import Load

# What the client's library says of a connection that ended within a stream.
_TORN: Final = re.compile(
    r"Internal error from Core|RST_STREAM|stream (was )?removed|GOAWAY|transport|reset by peer|socket closed",
    re.IGNORECASE,
)
# A publisher's timeout: how long a broker takes that is frozen or gone is no service's fault.
_PUBLISH_SECONDS_MAX: Final = 20.0
# A client's library gives up only after that much more than a server may take for all batches of a stream.
_STREAM_SECONDS_MAX: Final = 5 * CLIENT_SECONDS_MAX
_ANSWERS: Final = {
    "SUCCESS": Answer.STORED,
    "FAILED": Answer.STORED,
    "DUPLICATE": Answer.STORED,
    "ACCEPTED": Answer.ACCEPTED,
    "CONFLICT": Answer.CONFLICT,
    "REFUSED": Answer.REFUSED,
}
_CSV_FILES: Final = 0.3
"""Of so many files the rows are CSV, of the others JSON."""
_AMQP_ERRORS: Final = (aiormq.exceptions.AMQPError, aio_pika.exceptions.AMQPError, asyncio.InvalidStateError)
_BROKER_ERRORS: Final = (QueueClientError, OSError, TimeoutError, EOFError, *_AMQP_ERRORS)


class Producer:
    """What the channels have in common."""

    calls_at_once = 4
    singles = 0.5
    may_repeat = True

    def __init__(self, load: "Load") -> None:
        self.load = load
        self.world = load.world
        self.journal = load.journal
        self.random = load.random

    def finish(self, sent: Sent) -> None:
        """Give a new event what this channel wants of it."""

    async def send(self, attempts: list[Attempt]) -> bool:
        """Send once; return whether the call itself was answered."""
        raise NotImplementedError

    async def insist(self, attempts: list[Attempt]) -> None:
        """Send until everything is answered."""
        while attempts:
            self.journal.expect(attempts)
            await self.send(attempts)
            self.journal.note(attempts)
            attempts = [attempt for attempt in attempts if attempt.version.answer is None]
            if attempts:
                await asyncio.sleep(0.2)

    def timed(self, channel: str, *, batch: bool = False) -> contextlib.AbstractContextManager[None]:
        """Time a call; see `deadlines.timed`."""
        seconds_max = self.load.batch_seconds_max if batch else self.load.answer_seconds_max
        return timed(self.world, self.journal, channel, seconds_max=seconds_max)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


class HttpProducer(Producer):
    """`POST /api/ingest` and its batches, waiting or not."""

    async def __aenter__(self) -> Self:
        self._client = httpx2.AsyncClient(
            base_url=f"http://{HOST}:{self.world.ports['http']}", timeout=CLIENT_SECONDS_MAX
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def send(self, attempts: list[Attempt]) -> bool:
        headers = {"Prefer": "respond-async"} if self.random.random() < 0.3 else {}
        documents = [
            f'{{"source_name": "{attempt.sent.source}", "id": "{attempt.sent.key}", "payload": '.encode()
            + attempt.version.body
            + b"}"
            for attempt in attempts
        ]
        try:
            if len(attempts) == 1:
                with self.timed("http"):
                    answer = await self._client.post(
                        "/api/ingest", content=documents[0], headers={"Content-Type": "application/json", **headers}
                    )
                return self._learn_one(attempts[0], answer)
            with self.timed("http", batch=True):
                answer = await self._client.post(
                    "/api/ingest/batch",
                    content=b"\n".join(documents),
                    headers={"Content-Type": "application/x-ndjson", **headers},
                )
        except httpx2.TransportError:
            return False
        return self._learn_many(attempts, answer)

    def _learn_one(self, attempt: Attempt, answer: httpx2.Response) -> bool:
        match answer.status_code:
            case 200 | 201:
                meaning = Answer.STORED
            case 202:
                meaning = Answer.ACCEPTED
            case 409:
                meaning = Answer.CONFLICT
            case 422 if msgspec.json.decode(answer.content)["type"].endswith("#failed"):
                meaning = Answer.STORED
            case 400 | 422:
                meaning = Answer.REFUSED
            case 429 | 503:
                self.journal.calls["later"] += 1
                return False
            case status:
                self.journal.calls[f"unexpected HTTP {status}"] += 1
                return False
        self.journal.learn(attempt, meaning)
        return True

    def _learn_many(self, attempts: Sequence[Attempt], answer: httpx2.Response) -> bool:
        if answer.status_code != 200:
            later = answer.status_code in (429, 503)
            self.journal.calls["later" if later else f"unexpected HTTP {answer.status_code}"] += 1
            return False
        results = msgspec.json.decode(answer.content)["results"]
        for attempt, result in zip(attempts, results, strict=True):
            if result["status"] in _ANSWERS:
                self.journal.learn(attempt, _ANSWERS[result["status"]])
        return all(result["status"] in _ANSWERS for result in results)


def _is_torn(error: grpc.aio.AioRpcError) -> bool:
    """Return whether the client's library made this status, of a stream that broke off."""
    from_server = any(name == "grpc-status-details-bin" for name, _ in error.trailing_metadata() or ())
    return not from_server and _TORN.search(error.details() or "") is not None


class GrpcProducer(Producer):
    """`Ingest`, `IngestBatch` and now and then a stream."""

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(
            f"{HOST}:{self.world.ports['grpc']}",
            options=(("grpc.max_reconnect_backoff_ms", 500), ("grpc.initial_reconnect_backoff_ms", 100)),
        )
        self._stub = EtlServiceStub(self._channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def send(self, attempts: list[Attempt]) -> bool:
        requests = [
            pb.IngestRequest(
                source_name=attempt.sent.source, id=attempt.sent.key, payload_json=attempt.version.body.decode()
            )
            for attempt in attempts
        ]
        metadata = (("prefer", "respond-async"),) if self.random.random() < 0.3 else ()
        try:
            if len(requests) == 1:
                with self.timed("grpc"):
                    answer = await self._stub.Ingest(requests[0], timeout=CLIENT_SECONDS_MAX, metadata=metadata)
                return self._learn(attempts, [answer])
            if self.random.random() < 0.3:
                return await self._stream(attempts, requests, metadata)
            batch = pb.IngestBatchRequest(requests=requests)
            with self.timed("grpc"):
                answers = await self._stub.IngestBatch(batch, timeout=CLIENT_SECONDS_MAX, metadata=metadata)
            return self._learn(attempts, answers.responses)
        except grpc.aio.AioRpcError as error:
            return self._learn_status(attempts, error)

    async def _stream(
        self, attempts: list[Attempt], requests: list[pb.IngestRequest], metadata: tuple[tuple[str, str], ...]
    ) -> bool:
        portions = [requests[start : start + 5] for start in range(0, len(requests), 5)]
        call = self._stub.IngestStream(
            (pb.IngestBatchRequest(requests=portion) for portion in portions),
            timeout=_STREAM_SECONDS_MAX,
            metadata=metadata,
        )
        read = 0
        answered = True
        while True:
            with self.timed("grpc"):
                answer = await call.read()
            if answer is grpc.aio.EOF:
                return answered
            portion = attempts[read : read + len(answer.responses)]
            read += len(portion)
            answered = self._learn(portion, answer.responses) and answered

    def _learn(self, attempts: Sequence[Attempt], answers: Sequence[pb.IngestResponse]) -> bool:
        for attempt, answer in zip(attempts, answers, strict=True):
            if answer.status in _ANSWERS:
                self.journal.learn(attempt, _ANSWERS[answer.status])
        return all(answer.status in _ANSWERS for answer in answers)

    def _learn_status(self, attempts: list[Attempt], error: grpc.aio.AioRpcError) -> bool:
        match error.code():
            case grpc.StatusCode.ALREADY_EXISTS if len(attempts) == 1:
                self.journal.learn(attempts[0], Answer.CONFLICT)
            case grpc.StatusCode.INVALID_ARGUMENT if len(attempts) == 1:
                self.journal.learn(attempts[0], Answer.REFUSED)
            case grpc.StatusCode.RESOURCE_EXHAUSTED:
                self.journal.calls["later"] += 1
                return False
            case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED:
                return False
            # A call that the server had when it died.
            case grpc.StatusCode.CANCELLED:
                return False
            case grpc.StatusCode.INTERNAL if _is_torn(error):
                return False
            case code:
                self.journal.calls[f"unexpected gRPC {code.name}: {error.details()}"] += 1
                return False
        return True


class QueueProducer(Producer):
    """Messages to the public exchange, each confirmed. What is no JSON is kept all the same, as FAILED."""

    def finish(self, sent: Sent) -> None:
        sent.becomes_failed = not sent.valid
        sent.valid = True

    async def __aenter__(self) -> Self:
        self._client: QueueClient | None = None
        self._connecting = asyncio.Lock()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._disconnect()

    async def send(self, attempts: list[Attempt]) -> bool:
        for attempt in attempts:
            client = await self._connected()
            if client is None:
                return False
            sent = attempt.sent
            try:
                with timed(self.world, self.journal, "queue", seconds_max=None):
                    async with asyncio.timeout(_PUBLISH_SECONDS_MAX):
                        await client.publish("etl-queue", attempt.version.body, source=sent.source, id=sent.key)
            except _BROKER_ERRORS:
                await self._disconnect(client)
                return False
            except asyncio.CancelledError:
                # The client library cancels what is in flight when its connection ends.
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                await self._disconnect(client)
                return False
            self.journal.learn(attempt, Answer.ACCEPTED)
        return True

    async def _connected(self) -> QueueClient | None:
        async with self._connecting:
            if self._client is None:
                client = QueueClient(self.world.amqp_url("producer"))
                try:
                    async with asyncio.timeout(_PUBLISH_SECONDS_MAX):
                        self._client = await client.__aenter__()
                except _BROKER_ERRORS:
                    return None
            return self._client

    async def _disconnect(self, client: QueueClient | None = None) -> None:
        if self._client is None or (client is not None and client is not self._client):
            return
        ended, self._client = self._client, None
        try:
            async with asyncio.timeout(2):
                await ended.__aexit__()
        except (*_BROKER_ERRORS, asyncio.CancelledError):
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise


class FileProducer(Producer):
    """Files that are written beside the inbox and renamed into it; answered by their arrival in done/."""

    calls_at_once = 2
    singles = 0.2
    may_repeat = False

    def finish(self, sent: Sent) -> None:
        # Its own id, or one that is derived from the file's content and the row's number: then it is found again by
        # its content.
        if not sent.valid or self.random.random() < 0.5:
            sent.key = ""
        else:
            sent.first.body = self.journal.content(id=sent.key)

    async def send(self, attempts: list[Attempt]) -> bool:
        source, as_csv = attempts[0].sent.source, self.random.random() < _CSV_FILES
        if as_csv:
            self._make_csv([attempt.sent for attempt in attempts])
        kind, header = ("csv", attempts[0].sent.csv_header) if as_csv else ("ndjson", b"")
        name = f"{attempts[0].sent.first.body[-24:-12].hex()}-{self.random.getrandbits(48):012x}.{kind}"
        rows = [attempt.sent.line for attempt in attempts]
        files = self.world.files
        await asyncio.to_thread(drop, files / "inbox" / source, name, [header, *rows] if as_csv else rows)
        done, failed = files / "done" / source / name, files / "failed" / source / name
        with timed(self.world, self.journal, "file", seconds_max=None):
            await until_true(lambda: done.exists() or failed.exists(), None)
        # Of a file in failed/ nothing was taken, of one in done/ the valid rows: the ledger has to show that these are.
        for attempt in attempts:
            self.journal.learn(attempt, Answer.ACCEPTED if attempt.sent.valid and done.exists() else Answer.REFUSED)
        return True

    def _make_csv(self, rows: list[Sent]) -> None:
        """Make rows of CSV of them; those without an id leave its column empty."""
        for sent in rows:
            # What is no row keeps its bytes, and has too few fields.
            sent.make_csv(self.journal.record() if sent.valid else sent.first.body, named=True)
