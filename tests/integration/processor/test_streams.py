"""The streams between a caller and the processor's gRPC door: one batch after another, and what ends them."""

import asyncio
import gc
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import msgspec
import pytest

from processor.callers import Caller, Callers
from processor.servicer import ProcessingDoor
from shared.contracts.errors import (
    EtlPayError,
    OutcomeUnknownError,
    OverloadedError,
    PermanentError,
    RetryableError,
    UnavailableError,
)
from shared.contracts.event import Channel, Envelope
from shared.contracts.outcome import Outcome
from shared.contracts.receipt import Receipt
from shared.rpc import processing_pb2 as pb
from shared.rpc.processing_pb2_grpc import add_ProcessingServicer_to_server
from shared.runtime.rpc_server import RpcServerSettings, build_server, listen
from shared.settings import SubmissionSettings, TlsSettings
from shared.submission import processing as client_module
from shared.submission.processing import GrpcProcessing
from shared.testing.processing import FakeProcessing
from shared.wire import batch_message, encode_receipt
from support.events import event
from support.servers import free_port
from support.tls import Certificates

TOKEN = "the gateway's own"  # noqa: S105 - of a door that lives as long as its test


class Replica:
    """A processor's door over a ledger in memory, behind a port."""

    def __init__(self, port: int, callers: Callers | None = None, tls: TlsSettings | None = None) -> None:
        self.port = port
        self._callers = callers or Callers([])
        self._tls = tls or TlsSettings()
        self.ledger = FakeProcessing()
        self.streams = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.error: type[EtlPayError] | None = None
        self.kept: list[Receipt] = []
        self.door = self.new_door()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self._server = build_server(RpcServerSettings())
        add_ProcessingServicer_to_server(_Counting(self), self._server)
        listen(self._server, f"127.0.0.1:{self.port}", self._tls)
        await self._server.start()

    def new_door(self) -> ProcessingDoor:
        return ProcessingDoor(self._submit, keep=self._keep, callers=self._callers)

    async def drain(self) -> None:
        assert self._server
        async with asyncio.TaskGroup() as group:
            group.create_task(self._server.stop(20))
            await asyncio.sleep(0)
            self.door.drain()

    async def kill(self) -> None:
        assert self._server
        await self._server.stop(None)

    async def _submit(self, events: Sequence[Envelope]) -> list[Outcome]:
        await self.go_on.wait()
        if self.error:
            raise self.error("no")
        return await self.ledger.process(events)

    async def _keep(self, receipt: Receipt) -> None:
        if self.error:
            raise self.error("no")
        self.kept.append(receipt)


class _Counting(ProcessingDoor):
    def __init__(self, replica: Replica) -> None:
        super().__init__(replica.door._submit, keep=replica.door._keep, callers=replica.door._callers)
        self._replica = replica

    async def Process(  # noqa: N802 - the name in the proto
        self, requests: object, context: grpc.aio.ServicerContext[pb.EventBatch, pb.OutcomeBatch]
    ) -> None:
        self._replica.streams += 1
        await self._replica.door.Process(requests, context)


@pytest.fixture
async def replica() -> AsyncIterator[Replica]:
    running = Replica(free_port())
    await running.start()
    yield running
    running.go_on.set()
    await running.drain()


@asynccontextmanager
async def calling(*replicas: Replica, **settings: str) -> AsyncIterator[GrpcProcessing]:
    target = "ipv4:" + ",".join(f"127.0.0.1:{replica.port}" for replica in replicas)
    told = {"processor_target": target, "process_seconds_max": 2} | settings
    client = GrpcProcessing(SubmissionSettings.model_validate(told))
    yield client
    await client.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the condition is in a library
            await asyncio.sleep(0.01)


async def test_batches_one_after_another_share_a_stream(replica: Replica) -> None:
    async with calling(replica) as client:
        for number in range(20):
            await client.process([event(key=str(number))])

    assert replica.streams == 1


async def test_a_receipt_is_kept_or_told_to_be_sent_again(replica: Replica) -> None:
    receipt = Receipt(service="api-gateway", instance=uuid.uuid4(), number=1, counts=())
    async with calling(replica) as client:
        await client.report(encode_receipt(receipt))
        replica.error = UnavailableError
        with pytest.raises(RetryableError):
            await client.report(encode_receipt(receipt))

    assert replica.kept == [receipt]


async def test_batches_at_once_have_a_stream_each(replica: Replica) -> None:
    replica.go_on.clear()
    async with calling(replica) as client, asyncio.TaskGroup() as group:
        calls = [group.create_task(client.process([event(key=str(number))])) for number in range(5)]
        await until(lambda: replica.streams == 5)
        replica.go_on.set()

    assert sorted(call.result()[0].raw_event_id for call in calls) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OverloadedError, OverloadedError),
        # It may have been stored before its commit's answer was lost.
        (UnavailableError, OutcomeUnknownError),
        (PermanentError, OutcomeUnknownError),
    ],
)
async def test_a_refusal_is_told_and_the_next_batch_is_taken(
    replica: Replica, error: type[EtlPayError], told: type[Exception]
) -> None:
    async with calling(replica) as client:
        await client.process([event(key="a")])
        replica.error = error
        with pytest.raises(told):
            await client.process([event(key="b")])
        replica.error = None

        await client.process([event(key="c")])

    assert replica.streams == 2


async def test_what_nobody_is_there_to_take_was_not_taken_and_what_was_cut_off_is_unknown(replica: Replica) -> None:
    async with calling(replica) as client, asyncio.TaskGroup() as group:
        replica.go_on.clear()
        in_hand = group.create_task(_unknown(client, "a"))
        await until(lambda: replica.streams == 1)
        await asyncio.sleep(0.2)
        await replica.kill()
        assert await in_hand

        with pytest.raises(UnavailableError):
            await client.process([event(key="b")])


async def _unknown(client: GrpcProcessing, name: str) -> bool:
    with pytest.raises(OutcomeUnknownError):
        await client.process([event(key=name)])
    return True


async def test_a_call_of_its_own_is_served_also_while_it_drains(replica: Replica) -> None:
    """As doors before the streams made one for each batch."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{replica.port}") as channel:
        process: grpc.aio.UnaryUnaryMultiCallable[pb.EventBatch, pb.OutcomeBatch] = channel.unary_unary(
            "/etlpay.processing.v1.Processing/Process",
            request_serializer=pb.EventBatch.SerializeToString,
            response_deserializer=pb.OutcomeBatch.FromString,
        )
        before = await process(batch_message([event(key="a")]))
        replica.door.drain()
        after = await process(batch_message([event(key="b")]))

    assert [outcome.raw_event_id for outcome in (*before.outcomes, *after.outcomes)] == [1, 2]


async def test_what_was_refused_leaves_nothing_behind(replica: Replica) -> None:
    """What a frame of a failed call holds stays until Python looks for it, which may be after many."""
    replica.error = OverloadedError
    async with calling(replica) as client:
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                with pytest.raises(OverloadedError):
                    await client.process([event(b'{"fill": "%b"}' % (b"x" * 1_000_000))])
            await asyncio.sleep(0.2)
            held = [each for each in gc.get_objects() if isinstance(each, pb.EventBatch)]
        finally:
            gc.enable()

    assert held == []


async def test_no_answer_in_time_is_an_unknown_outcome_and_its_stream_is_not_used_again(replica: Replica) -> None:
    async with calling(replica) as client:
        await client.process([event(key="a")])
        replica.go_on.clear()
        with pytest.raises(OutcomeUnknownError):
            await client.process([event(key="b")])
        replica.go_on.set()

        [outcome] = await client.process([event(key="c")])

    # An answer that came late on the old stream would be that to "b".
    [known] = await replica.ledger.process([event(key="c")])
    assert outcome.raw_event_id == known.raw_event_id
    assert replica.streams == 2


async def test_a_drain_answers_what_is_in_hand_ends_idle_streams_and_takes_no_more(replica: Replica) -> None:
    async with calling(replica) as client:
        await asyncio.gather(*(client.process([event(key=str(number))]) for number in range(3)))
        replica.go_on.clear()
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            in_hand = group.create_task(client.process([event(key="last")]))
            await asyncio.sleep(0.2)
            draining = group.create_task(replica.drain())
            await asyncio.sleep(0.2)
            assert not draining.done()
            replica.go_on.set()

        assert in_hand.result()[0].raw_event_id == 4
        await until(lambda: not client.connected)
        # Away, or unknown where a connection was made in the moment of closing: no yes in any case.
        with pytest.raises(RetryableError):
            await client.process([event(key="late")])

    assert len(replica.ledger.events) == 4


async def test_a_processor_that_began_anew_gets_the_next_batch(replica: Replica) -> None:
    async with calling(replica) as client:
        await client.process([event(key="a")])
        await replica.drain()
        replica.door = replica.new_door()
        await replica.start()
        await until(lambda: client.connected)

        [outcome] = await client.process([event(key="b")])

    assert outcome.raw_event_id == 2


async def test_a_drain_of_one_of_two_is_not_noticed() -> None:
    """A stream that ends before it took a batch is replaced by one to the other."""
    replicas = [Replica(free_port()), Replica(free_port())]
    for each in replicas:
        await each.start()
    async with calling(*replicas) as client:
        await until(lambda: client.connected)
        sending = True

        async def send(name: str) -> int:
            number = 0
            while sending:
                await client.process([event(key=f"{name}-{number}")])
                number += 1
            return number

        async with asyncio.TaskGroup() as group:
            senders = [group.create_task(send(str(name))) for name in range(4)]
            await asyncio.sleep(0.5)
            await replicas[0].drain()
            drained_at = sum(len(replica.ledger.events) for replica in replicas)
            await asyncio.sleep(0.5)
            sending = False
        sent = sum(sender.result() for sender in senders)

    assert 0 < drained_at < sent
    assert sum(len(replica.ledger.events) for replica in replicas) == sent
    await replicas[1].drain()


async def test_an_old_stream_is_left_so_that_a_new_replica_gets_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_STREAM_SECONDS_MAX", 0.0)
    replicas = [Replica(free_port()), Replica(free_port())]
    for each in replicas:
        await each.start()
    async with calling(*replicas) as client:
        async with asyncio.timeout(10):
            while not all(replica.streams for replica in replicas):
                await client.process([event()])
    for each in replicas:
        await each.drain()


@asynccontextmanager
async def serving(callers: Callers | None = None, tls: TlsSettings | None = None) -> AsyncIterator[Replica]:
    replica = Replica(free_port(), callers, tls)
    await replica.start()
    yield replica
    await replica.drain()


def gateway_only() -> Callers:
    return Callers([(Caller("api-gateway", Channel.HTTP), TOKEN), (Caller("grpc-ingest", Channel.GRPC), "")])


@pytest.mark.parametrize("token", ["", "another", TOKEN + " ", "x" * 4_000])
async def test_who_has_no_token_is_refused_before_anything_is_read(token: str) -> None:
    async with serving(gateway_only()) as replica, calling(replica, processor_token=token) as client:
        for _ in range(3):
            with pytest.raises(UnavailableError):
                await client.process([event(key="a")])

        assert not client.connected

    assert replica.ledger.events == []


async def test_who_has_a_token_is_asked_for_it_once_a_stream() -> None:
    async with serving(gateway_only()) as replica, calling(replica, processor_token=TOKEN) as client:
        for number in range(5):
            await client.process([event(key=str(number))])

        assert client.connected

    assert (len(replica.ledger.events), replica.streams) == (5, 1)


async def test_a_service_sends_events_of_its_own_channel_only() -> None:
    foreign = msgspec.structs.replace(event(key="b"), channel=Channel.GRPC)
    async with serving(gateway_only()) as replica, calling(replica, processor_token=TOKEN) as client:
        with pytest.raises(UnavailableError):
            await client.process([event(key="a"), foreign])
        await client.process([event(key="c")])

    assert [each.idempotency_key for each in replica.ledger.events] == ["c"]


async def test_with_certificates_each_side_knows_the_other(tmp_path: Path) -> None:
    known = Certificates(tmp_path)
    client_files = {
        "processor_ca_file": str(known.ca),
        "processor_cert_file": str(known.client_cert),
        "processor_key_file": str(known.client_key),
    }
    async with (
        serving(tls=TlsSettings(**known.settings(clients=True))) as replica,
        calling(replica, processor_target=f"127.0.0.1:{replica.port}", **client_files) as client,
    ):
        await client.process([event(key="a")])

    assert [each.idempotency_key for each in replica.ledger.events] == ["a"]


@pytest.mark.parametrize("missing", ["certificate", "authority", "tls"])
async def test_who_cannot_prove_who_it_is_hands_nothing_over(tmp_path: Path, missing: str) -> None:
    known, other = Certificates(tmp_path), Certificates(make_folder(tmp_path / "other"))
    mine, trusted = (known.client_cert, known.client_key), known.ca
    files = {"processor_ca_file": str(other.ca if missing == "authority" else trusted)}
    if missing != "certificate":
        files |= {"processor_cert_file": str(mine[0]), "processor_key_file": str(mine[1])}
    if missing == "tls":
        files = {}
    async with (
        serving(tls=TlsSettings(**known.settings(clients=True))) as replica,
        calling(replica, processor_target=f"127.0.0.1:{replica.port}", **files) as client,
    ):
        with pytest.raises(RetryableError):
            await client.process([event(key="a")])

        assert not client.connected

    assert replica.ledger.events == []


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path
