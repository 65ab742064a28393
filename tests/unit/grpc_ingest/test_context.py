"""How much grpc-ingest takes in at once, and what becomes of the rest."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from pydantic import ValidationError

from grpc_ingest.settings import Settings
from shared.auth.authenticator import Access
from shared.auth.keys import generate_key
from shared.contracts.event import Envelope
from shared.contracts.result import Recorded
from shared.testing.processing import FakeProcessing
from support.calls import AbortedError, FakeContext, GrpcApi, batch, request
from support.keys import FakeClock, bearer, write_keys


class Held(FakeProcessing):
    """Answers nobody before it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()

    async def process(self, events: Sequence[Envelope]) -> list[Recorded]:
        await self.may.wait()
        return await super().process(events)


async def test_call_without_room_is_told_to_come_back_and_room_is_given_back() -> None:
    processing = Held()
    api = GrpcApi(processing, requests_bytes_max=100, call_seconds_max=0.2)
    async with api.open(), asyncio.TaskGroup() as group:
        first = group.create_task(api.ingest(request("a", '{"text": "%s"}' % ("x" * 200))))
        await asyncio.sleep(0.05)
        aborted = await api.refusal(request("b"))
        processing.may.set()
        await first

        assert aborted.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await api.ingest(request("b"))).status == "SUCCESS"


class SlowContext(FakeContext):
    """A client that sends its message when the test says so."""

    def __init__(self, sent: bytes) -> None:
        super().__init__([sent])
        self.may = asyncio.Event()

    async def read(self) -> object:
        self.reads += 1
        await self.may.wait()
        return self.requests.pop(0)


async def test_only_so_many_calls_are_read_at_once() -> None:
    contexts = [SlowContext(batch(str(number))) for number in range(3)]
    async with GrpcApi(calls_read_max=2, share=1).open() as api, asyncio.TaskGroup() as group:
        calls = [group.create_task(api.servicer.ingest_batch(None, context)) for context in contexts]  # type: ignore[arg-type] # a fake
        await asyncio.sleep(0.05)
        reads = [context.reads for context in contexts]
        for context in contexts:
            context.may.set()

    assert reads == [1, 1, 0]
    assert [len(call.result().responses) for call in calls] == [1, 1, 1]


async def test_call_whose_message_does_not_come_ends_and_makes_room() -> None:
    silent: Any = SlowContext(batch("a"))
    async with GrpcApi(calls_read_max=1, call_seconds_max=0.05).open() as api:
        with pytest.raises(AbortedError) as aborted:
            await api.servicer.ingest_batch(None, silent)
        after = await api.ingest_batch(request("b"))

    assert aborted.value.code is grpc.StatusCode.UNAVAILABLE
    assert [response.status for response in after] == ["SUCCESS"]


async def test_call_without_a_message_is_refused() -> None:
    context: Any = FakeContext()
    context.open.set()
    async with GrpcApi().open() as api:
        with pytest.raises(AbortedError) as aborted:
            await api.servicer.ingest(None, context)

    assert aborted.value.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_caller_without_a_key_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    context: Any = FakeContext([batch("a")])
    access = Access(write_keys(tmp_path / "keys.toml", (generate_key(), "shop", "shop*")))
    async with GrpcApi(access=access).open() as api:
        with pytest.raises(AbortedError) as aborted:
            await api.servicer.ingest_batch(None, context)

    assert aborted.value.code is grpc.StatusCode.UNAUTHENTICATED
    assert context.reads == 0


async def admission_error(access: Access, key: str) -> AbortedError:
    context: Any = FakeContext([batch("a")], [("authorization", bearer(key))])
    async with GrpcApi(access=access).open() as api:
        with pytest.raises(AbortedError) as aborted:
            await api.servicer.ingest_batch(None, context)
    assert context.reads == 0
    assert api.processing.events == []
    return aborted.value


async def test_key_that_may_only_read_cannot_send(tmp_path: Path) -> None:
    key = generate_key()
    path = write_keys(tmp_path / "keys.toml", (key, "shop", "*"), may='["read", "audit"]')

    aborted = await admission_error(Access(path), key)

    assert aborted.code is grpc.StatusCode.PERMISSION_DENIED
    assert aborted.detail(ErrorInfo).reason == "API_KEY_MAY_NOT_SEND"


async def test_key_that_has_expired_is_refused(tmp_path: Path) -> None:
    key = generate_key()
    path = write_keys(tmp_path / "keys.toml", (key, "shop", "*"), expires="2026-11-23T08:00:00Z")

    aborted = await admission_error(Access(path), key)

    assert aborted.code is grpc.StatusCode.UNAUTHENTICATED


async def test_nobody_is_let_in_by_keys_that_could_not_be_read_for_too_long(tmp_path: Path) -> None:
    key, clock = generate_key(), FakeClock()
    path = write_keys(tmp_path / "keys.toml", (key, "shop", "*"))
    access = Access(path, stale_seconds=60, clock=clock)
    path.unlink()
    clock.now += 61

    aborted = await admission_error(access, key)

    assert aborted.code is grpc.StatusCode.UNAVAILABLE
    assert aborted.detail(RetryInfo).retry_delay.seconds == 1


async def test_who_sent_an_event_goes_with_it(tmp_path: Path) -> None:
    key = generate_key()
    access = Access(write_keys(tmp_path / "keys.toml", (key, "acme", "*")))
    async with GrpcApi(access=access).open() as api:
        await api.ingest(request("a"), authorization=bearer(key))
        await api.ingest_batch(request("b"), authorization=bearer(key))

    assert [event.sender for event in api.processing.events] == ["acme", "acme"]


async def test_streams_of_one_caller_leave_room_for_another() -> None:
    streams = [FakeContext() for _ in range(6)]
    other = FakeContext([batch("a")])
    other.address = "ipv4:192.0.2.7:50000"
    other.open.set()
    async with GrpcApi(streams_max=4).open() as api, asyncio.TaskGroup() as group:
        calls = [group.create_task(_code(api, context)) for context in streams]
        await asyncio.sleep(0.01)
        ended = [call.result() for call in calls if call.done()]
        await api.servicer.ingest_stream(None, other)  # type: ignore[arg-type] # a fake
        for context in streams:
            context.open.set()

    assert ended == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 3
    assert len(other.written) == 1


async def test_calls_of_one_caller_whose_messages_do_not_come_leave_room_for_another() -> None:
    silent = [SlowContext(batch(str(number))) for number in range(20)]
    async with GrpcApi(calls_read_max=4, calls_max=12).open() as api, asyncio.TaskGroup() as group:
        calls = [group.create_task(_code(api, context, "ingest_batch")) for context in silent]
        await asyncio.sleep(0.01)
        refused = sum(call.done() for call in calls)
        response = await api.ingest_from("ipv4:192.0.2.7:50000", request("a"))
        for context in silent:
            context.may.set()

    assert (refused, response.status) == (11, "SUCCESS")


async def test_a_call_is_counted_until_its_answer_is_sent_and_not_for_ever() -> None:
    unread: Any = FakeContext([batch("a")])
    async with GrpcApi(calls_max=1, send_seconds_max=0).open() as api:
        await api.servicer.ingest_batch(None, unread)
        aborted = await api.refusal(request("b"))
        api.calls.close_unread()
        unread.finish()
        after = await api.ingest(request("b"))

    assert aborted.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert api.closed == [unread.address]
    assert after.status == "SUCCESS"


async def test_a_stream_whose_answers_nobody_reads_ends_and_loses_its_connection() -> None:
    context = FakeContext([batch("a")])
    context.writable.clear()
    async with GrpcApi(stream_send_seconds_max=0.05).open() as api:
        with pytest.raises(AbortedError) as aborted:
            await api.servicer.ingest_stream(None, context)  # type: ignore[arg-type] # a fake

    assert aborted.value.code is grpc.StatusCode.UNAVAILABLE
    assert api.closed == [context.address]


async def test_a_stream_that_is_old_ends_after_its_answers_and_may_be_opened_again_at_once() -> None:
    context = FakeContext([batch("a")])
    async with GrpcApi(stream_age_seconds_max=0.1).open() as api:
        with pytest.raises(AbortedError) as aborted:
            await api.servicer.ingest_stream(None, context)  # type: ignore[arg-type] # a fake

    assert [[answer.status for answer in each.responses] for each in context.written] == [["SUCCESS"]]
    assert aborted.value.code is grpc.StatusCode.UNAVAILABLE
    assert aborted.value.detail(RetryInfo).retry_delay.ToMilliseconds() == 0


async def test_a_stream_may_not_outlive_its_connection() -> None:
    with pytest.raises(ValidationError, match="ETLPAY_GRPC_STREAM_AGE_SECONDS_MAX"):
        Settings(rpc_connection_grace_seconds=60, grpc_stream_age_seconds_max=60)


async def _code(api: GrpcApi, context: FakeContext, method: str = "ingest_stream") -> grpc.StatusCode:
    try:
        await getattr(api.servicer, method)(None, context)
    except AbortedError as error:
        return error.code
    finally:
        context.finish()
    return grpc.StatusCode.OK


async def test_stream_waits_for_room_instead_of_ending() -> None:
    processing = Held()
    async with GrpcApi(processing, requests_bytes_max=100).open() as api, asyncio.TaskGroup() as group:
        context = FakeContext([batch("a" * 100), batch("b" * 100), batch("c" * 100)])
        context.open.set()
        call = group.create_task(api.servicer.ingest_stream(None, context))  # type: ignore[arg-type] # a fake
        await asyncio.sleep(0.05)
        processing.may.set()
        await call

    assert [len(answer.responses) for answer in context.written] == [1, 1, 1]


async def test_stream_ends_at_the_batch_that_cannot_be_read_after_answering_those_before() -> None:
    async with GrpcApi().open() as api:
        context = FakeContext([batch("a"), b"\xff\xff", batch("b")])
        with pytest.raises(AbortedError) as aborted:
            await api.servicer.ingest_stream(None, context)  # type: ignore[arg-type] # a fake

    assert aborted.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [len(answer.responses) for answer in context.written] == [1]


async def test_stream_that_sends_nothing_more_is_answered_and_ends() -> None:
    """Its capacity is for others; what it has sent is stored and answered first."""
    context = FakeContext([batch("a")])

    async with GrpcApi(stream_pause_seconds_max=0.05).open() as api:
        with pytest.raises(AbortedError) as aborted:
            await api.servicer.ingest_stream(None, context)  # type: ignore[arg-type] # a fake

    assert [[answer.status for answer in each.responses] for each in context.written] == [["SUCCESS"]]
    assert aborted.value.code is grpc.StatusCode.UNAVAILABLE
    assert aborted.value.detail(RetryInfo).retry_delay.seconds == 1


async def test_stream_beyond_the_limit_is_refused_unread_and_other_calls_are_served() -> None:
    silent, beyond, later = FakeContext(), FakeContext([batch("a")]), FakeContext()
    later.open.set()

    async with GrpcApi(streams_max=1).open() as api, asyncio.TaskGroup() as group:
        group.create_task(api.servicer.ingest_stream(None, silent))  # type: ignore[arg-type] # a fake
        await asyncio.sleep(0)
        with pytest.raises(AbortedError) as aborted:
            await api.servicer.ingest_stream(None, beyond)  # type: ignore[arg-type] # a fake
        alone = await api.ingest(request())
        silent.open.set()
        await asyncio.sleep(0.01)
        await api.servicer.ingest_stream(None, later)  # type: ignore[arg-type] # a fake

    assert aborted.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert aborted.value.detail(RetryInfo).retry_delay.seconds == 1
    assert (beyond.reads, beyond.written) == (0, [])
    assert alone.status == "SUCCESS"


async def test_draining_ends_an_open_stream_after_its_answers() -> None:
    async with GrpcApi().open() as api, asyncio.TaskGroup() as group:
        context = FakeContext([batch("a")])
        call = group.create_task(_aborted(api, context))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(1):
            await api.servicer.drain()
        aborted = await call

    assert aborted.code is grpc.StatusCode.UNAVAILABLE
    assert [len(answer.responses) for answer in context.written] == [1]


async def test_cancelled_call_does_not_cancel_what_was_handed_over() -> None:
    slow = Held()
    async with GrpcApi(slow).open() as api, asyncio.TaskGroup() as group:
        call = group.create_task(api.ingest(request("a")))
        await asyncio.sleep(0.05)
        call.cancel()
        await asyncio.wait([call])
        slow.may.set()

    assert [event.idempotency_key for event in slow.events] == ["a"]


async def _aborted(api: GrpcApi, context: FakeContext) -> AbortedError:
    with pytest.raises(AbortedError) as aborted:
        await api.servicer.ingest_stream(None, context)  # type: ignore[arg-type] # a fake
    return aborted.value
