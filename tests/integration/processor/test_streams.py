"""The streams between a caller and the processor's gRPC service: one batch after another, and what ends them."""

import asyncio
import gc
import uuid
from collections.abc import AsyncIterator, Callable

import grpc.aio
import pytest

from shared.contracts.errors import (
    EtlPayError,
    OutcomeUnknownError,
    OverloadedError,
    PermanentError,
    RetryableError,
    UnavailableError,
)
from shared.contracts.receipt import Receipt
from shared.rpc import processing_pb2 as pb
from shared.submit import processing as client_module
from shared.submit.processing import GrpcProcessing
from shared.wire import batch_message, encode_receipt
from support.events import event
from support.replica import Replica, calling
from support.servers import free_port


@pytest.fixture
async def replica() -> AsyncIterator[Replica]:
    running = Replica(free_port())
    await running.start()
    yield running
    running.go_on.set()
    await running.drain()


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
    """As callers before the streams made one for each batch."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{replica.port}") as channel:
        process: grpc.aio.UnaryUnaryMultiCallable[pb.EventBatch, pb.OutcomeBatch] = channel.unary_unary(
            "/etlpay.processing.v1.Processing/Process",
            request_serializer=pb.EventBatch.SerializeToString,
            response_deserializer=pb.OutcomeBatch.FromString,
        )
        before = await process(batch_message([event(key="a")]))
        replica.service.drain()
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
        replica.service = replica.new_service()
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
