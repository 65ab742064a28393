"""The calls of `etlpay.EtlService`, on the twins of the processor and of RabbitMQ, without a socket."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from grpc_ingest.servicer import EtlServicer
from shared.access import Access, generate_key
from shared.batching import BatchLimits
from shared.contracts.errors import OutcomeUnknownError, OverloadedError, RetryableError, UnavailableError
from shared.contracts.event import Envelope
from shared.contracts.outcome import Outcome
from shared.rpc import etlpay_pb2 as pb
from shared.submission.submitter import Submitter
from shared.testing.processing import FakeProcessing
from shared.testing.publisher import FakePublisher
from support.keys import write_keys


class AbortedError(Exception):
    def __init__(self, code: grpc.StatusCode, message: str, status: Status) -> None:
        super().__init__(code, message)
        self.code = code
        self.status = status

    def detail(self, kind: type[Any]) -> Any:  # noqa: ANN401 - a message of that kind
        found = kind()
        assert self.status.details[0].Unpack(found)
        return found


class FakeContext:
    """As much of a call's context as the servicer uses."""

    def __init__(self, requests: Sequence[bytes] = (), metadata: Sequence[tuple[str, str]] = ()) -> None:
        self.requests = list(requests)
        self.metadata = metadata
        self.written: list[pb.IngestBatchResponse] = []
        self.reads = 0
        self.open = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        return self.metadata

    async def read(self) -> object:
        self.reads += 1
        if not self.requests:
            await self.open.wait()
            return grpc.aio.EOF
        return self.requests.pop(0)

    async def write(self, message: pb.IngestBatchResponse) -> None:
        await self.writable.wait()
        self.written.append(message)

    async def abort(self, code: grpc.StatusCode, details: str, metadata: Sequence[tuple[str, bytes]]) -> None:
        raise AbortedError(code, details, Status.FromString(dict(metadata)["grpc-status-details-bin"]))


class Door:
    def __init__(self, processing: FakeProcessing | None = None, access: Access | None = None, **limits: float) -> None:
        self.processing = processing or FakeProcessing()
        self.publisher = FakePublisher()
        self.submitter = Submitter(
            self.processing, self.publisher, limits=BatchLimits(), fallback_to_queue=limits.pop("fallback", True) == 1
        )
        bounds = {
            "batch_events_max": 10,
            "batch_bytes_max": 1_000_000,
            "body_bytes_max": 10_000,
            "calls_read_max": 2,
            "call_seconds_max": 5,
            "streams_max": 2,
            "stream_batches_max": 2,
            "stream_seconds_max": 5,
            "requests_bytes_max": 1_000_000,
        }
        self.servicer = EtlServicer(self.submitter, access or Access(None), **(bounds | limits))  # type: ignore[arg-type] # as Python has it: a whole number is one of seconds, too

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Door"]:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.submitter.run())
            yield self
            self.submitter.close()

    async def ingest(self, request: pb.IngestRequest | bytes, **metadata: str) -> pb.IngestResponse:
        sent = request if isinstance(request, bytes) else request.SerializeToString()
        context: Any = FakeContext([sent], list(metadata.items()))
        return await self.servicer.ingest(None, context)

    async def ingest_batch(self, *requests: pb.IngestRequest, **metadata: str) -> list[pb.IngestResponse]:
        sent = pb.IngestBatchRequest(requests=requests).SerializeToString()
        context: Any = FakeContext([sent], list(metadata.items()))
        return list((await self.servicer.ingest_batch(None, context)).responses)

    async def refusal(self, request: pb.IngestRequest | bytes) -> AbortedError:
        with pytest.raises(AbortedError) as aborted:
            await self.ingest(request)
        return aborted.value


def request(key: str = "", payload: str = '{"value": 1}', source: str = "grpc-demo") -> pb.IngestRequest:
    return pb.IngestRequest(source_name=source, payload_json=payload, id=key)


def batch(*keys: str) -> bytes:
    return pb.IngestBatchRequest(requests=[request(key) for key in keys]).SerializeToString()


async def test_event_is_stored_and_answered_with_its_record() -> None:
    async with Door().open() as door:
        response = await door.ingest(request("a"))

    assert (response.status, response.id) == ("SUCCESS", 1)
    assert [event.body for event in door.processing.events] == [b'{"value": 1}']


async def test_same_id_again_answers_the_first_record() -> None:
    async with Door().open() as door:
        first, again = await door.ingest(request("a")), await door.ingest(request("a"))

    assert (first.id, False, True) == (again.id, first.duplicate, again.duplicate)


async def test_same_id_with_other_content_already_exists() -> None:
    async with Door().open() as door:
        await door.ingest(request("a"))
        aborted = await door.refusal(request("a", '{"value": 2}'))

    assert aborted.code is grpc.StatusCode.ALREADY_EXISTS
    info = aborted.detail(ErrorInfo)
    assert (info.reason, info.domain) == ("CONFLICT", "etlpay")


async def test_refused_event_names_its_fields_and_is_absent() -> None:
    async with Door().open() as door:
        aborted = await door.refusal(request("a", "not json", source="no spaces please"))

    assert aborted.code is grpc.StatusCode.INVALID_ARGUMENT
    fields = [violation.field for violation in aborted.detail(BadRequest).field_violations]
    assert fields == ["source_name", "payload_json"]
    assert door.processing.events == []


@pytest.mark.parametrize(
    "garbage",
    [b"\xff\xff\xff\xff", b"\x0a\x02\xff\xfe", b"\x12\x04\xed\xa0\x80x", b"{}" * 50],
    ids=["no protobuf", "no UTF-8", "surrogate", "json"],
)
async def test_bytes_that_are_no_request_are_refused(garbage: bytes) -> None:
    async with Door().open() as door:
        aborted = await door.refusal(garbage)

    assert aborted.code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OverloadedError("full"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (UnavailableError("away"), grpc.StatusCode.UNAVAILABLE),
        (OutcomeUnknownError("late"), grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_what_may_work_later_says_when_to_retry(error: RetryableError, code: grpc.StatusCode) -> None:
    async with Door(fallback=0).open() as door:
        door.processing.away = error
        aborted = await door.refusal(request("a"))

    assert aborted.code is code
    assert aborted.detail(RetryInfo).retry_delay.seconds == 1


async def test_fault_of_ours_tells_nothing_of_the_event() -> None:
    class Broken(FakeProcessing):
        async def process(self, events: Sequence[Envelope]) -> list[Outcome]:
            raise ValueError(events[0].body)

    async with Door(Broken()).open() as door:
        with pytest.raises(AbortedError) as aborted:
            await door.ingest(request("a", '{"card": "4111"}'))

    assert aborted.value.code is grpc.StatusCode.INTERNAL
    assert "4111" not in str(aborted.value)


async def test_event_is_accepted_while_the_processor_is_away() -> None:
    async with Door().open() as door:
        door.processing.away = UnavailableError("away")
        response = await door.ingest(request("a"))

    assert (response.status, response.id) == ("ACCEPTED", 0)
    assert [event.idempotency_key for event in door.publisher.events] == ["a"]


async def test_client_that_prefers_not_to_wait_is_answered_from_the_queue() -> None:
    async with Door().open() as door:
        response = await door.ingest(request("a"), prefer="foo, Respond-Async")

    assert response.status == "ACCEPTED"
    assert door.processing.events == []
    assert [event.idempotency_key for event in door.publisher.events] == ["a"]


async def test_batch_answers_each_request_in_order() -> None:
    async with Door().open() as door:
        await door.ingest(request("kept"))
        responses = await door.ingest_batch(
            request("one"), request("two", "[]"), request("kept", "{}"), request("one"), request("three")
        )

    assert [response.status for response in responses] == ["SUCCESS", "REFUSED", "CONFLICT", "SUCCESS", "SUCCESS"]
    assert [response.duplicate for response in responses] == [False, False, False, True, False]
    assert responses[1].problems[0].pointer == "/payload_json"


async def test_batch_that_cannot_be_handed_over_is_unknown_beside_what_was_refused() -> None:
    async with Door(fallback=0).open() as door:
        door.processing.away = UnavailableError("away")
        responses = await door.ingest_batch(request("one"), request("two", "[]"))

    assert [response.status for response in responses] == ["UNKNOWN", "REFUSED"]


async def test_batch_over_the_limit_is_refused_as_a_whole() -> None:
    async with Door().open() as door:
        with pytest.raises(AbortedError) as aborted:
            await door.ingest_batch(*[request(str(number)) for number in range(11)])

    assert aborted.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert door.processing.events == []


async def test_empty_batch_has_an_empty_answer() -> None:
    async with Door().open() as door:
        assert await door.ingest_batch() == []


async def test_large_batch_goes_over_in_pieces_and_comes_back_in_order() -> None:
    async with Door(batch_bytes_max=1_000).open() as door:
        responses = await door.ingest_batch(*[request(str(number)) for number in range(10)])

    assert len(door.processing.batches) > 1
    assert [*range(1, 11)] == [response.id for response in responses]


async def test_stream_answers_batch_by_batch_in_order() -> None:
    async with Door().open() as door:
        context = FakeContext([batch("a", "b"), batch("c"), batch()])
        context.open.set()
        await door.servicer.ingest_stream(None, context)  # type: ignore[arg-type] # a twin

    assert [len(answer.responses) for answer in context.written] == [2, 1, 0]


async def test_stream_is_not_read_while_its_batches_are_not_answered() -> None:
    async with Door().open() as door, asyncio.TaskGroup() as group:
        context = FakeContext([batch(str(number)) for number in range(9)])
        context.writable.clear()
        call = group.create_task(door.servicer.ingest_stream(None, context))  # type: ignore[arg-type] # a twin
        await asyncio.sleep(0.05)
        reads_while_blocked = context.reads
        context.writable.set()
        context.open.set()
        await call

    assert reads_while_blocked == 2
    assert len(context.written) == 9


class Held(FakeProcessing):
    """Answers nobody before it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()

    async def process(self, events: Sequence[Envelope]) -> list[Outcome]:
        await self.may.wait()
        return await super().process(events)


async def test_call_without_room_is_told_to_come_back_and_room_is_given_back() -> None:
    processing = Held()
    async with Door(processing, requests_bytes_max=100).open() as door, asyncio.TaskGroup() as group:
        first = group.create_task(door.ingest(request("a", '{"text": "%s"}' % ("x" * 200))))
        await asyncio.sleep(0.05)
        aborted = await door.refusal(request("b"))
        processing.may.set()
        await first

        assert aborted.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await door.ingest(request("b"))).status == "SUCCESS"


class SlowContext(FakeContext):
    """A client that sends its message when it is told to."""

    def __init__(self, sent: bytes) -> None:
        super().__init__([sent])
        self.may = asyncio.Event()

    async def read(self) -> object:
        self.reads += 1
        await self.may.wait()
        return self.requests.pop(0)


async def test_only_so_many_calls_are_read_at_once() -> None:
    contexts = [SlowContext(batch(str(number))) for number in range(3)]
    async with Door(calls_read_max=2).open() as door, asyncio.TaskGroup() as group:
        calls = [group.create_task(door.servicer.ingest_batch(None, context)) for context in contexts]  # type: ignore[arg-type] # a twin
        await asyncio.sleep(0.05)
        reads = [context.reads for context in contexts]
        for context in contexts:
            context.may.set()

    assert reads == [1, 1, 0]
    assert [len(call.result().responses) for call in calls] == [1, 1, 1]


async def test_call_whose_message_does_not_come_ends_and_makes_room() -> None:
    silent: Any = SlowContext(batch("a"))
    async with Door(calls_read_max=1, call_seconds_max=0.05).open() as door:
        with pytest.raises(AbortedError) as aborted:
            await door.servicer.ingest_batch(None, silent)
        after = await door.ingest_batch(request("b"))

    assert aborted.value.code is grpc.StatusCode.UNAVAILABLE
    assert [response.status for response in after] == ["SUCCESS"]


async def test_call_without_a_message_is_refused() -> None:
    context: Any = FakeContext()
    context.open.set()
    async with Door().open() as door:
        with pytest.raises(AbortedError) as aborted:
            await door.servicer.ingest(None, context)

    assert aborted.value.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_caller_without_a_key_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    context: Any = FakeContext([batch("a")])
    access = Access(write_keys(tmp_path / "keys.toml", (generate_key(), "shop", "shop*")))
    async with Door(access=access).open() as door:
        with pytest.raises(AbortedError) as aborted:
            await door.servicer.ingest_batch(None, context)

    assert aborted.value.code is grpc.StatusCode.UNAUTHENTICATED
    assert context.reads == 0


async def test_stream_waits_for_room_instead_of_ending() -> None:
    processing = Held()
    async with Door(processing, requests_bytes_max=100).open() as door, asyncio.TaskGroup() as group:
        context = FakeContext([batch("a" * 100), batch("b" * 100), batch("c" * 100)])
        context.open.set()
        call = group.create_task(door.servicer.ingest_stream(None, context))  # type: ignore[arg-type] # a twin
        await asyncio.sleep(0.05)
        processing.may.set()
        await call

    assert [len(answer.responses) for answer in context.written] == [1, 1, 1]


async def test_stream_ends_at_the_batch_that_cannot_be_read_after_answering_those_before() -> None:
    async with Door().open() as door:
        context = FakeContext([batch("a"), b"\xff\xff", batch("b")])
        with pytest.raises(AbortedError) as aborted:
            await door.servicer.ingest_stream(None, context)  # type: ignore[arg-type] # a twin

    assert aborted.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [len(answer.responses) for answer in context.written] == [1]


async def test_stream_that_sends_nothing_more_is_answered_and_ends() -> None:
    """Its place is for others; what it has sent is stored and told first."""
    context = FakeContext([batch("a")])

    async with Door(stream_seconds_max=0.05).open() as door:
        with pytest.raises(AbortedError) as aborted:
            await door.servicer.ingest_stream(None, context)  # type: ignore[arg-type] # a twin

    assert [[answer.status for answer in each.responses] for each in context.written] == [["SUCCESS"]]
    assert aborted.value.code is grpc.StatusCode.UNAVAILABLE
    assert aborted.value.detail(RetryInfo).retry_delay.seconds == 1


async def test_stream_beyond_the_limit_is_refused_unread_and_other_calls_are_served() -> None:
    silent, beyond, later = FakeContext(), FakeContext([batch("a")]), FakeContext()
    later.open.set()

    async with Door(streams_max=1).open() as door, asyncio.TaskGroup() as group:
        group.create_task(door.servicer.ingest_stream(None, silent))  # type: ignore[arg-type] # a twin
        await asyncio.sleep(0)
        with pytest.raises(AbortedError) as aborted:
            await door.servicer.ingest_stream(None, beyond)  # type: ignore[arg-type] # a twin
        alone = await door.ingest(request())
        silent.open.set()
        await asyncio.sleep(0.01)
        await door.servicer.ingest_stream(None, later)  # type: ignore[arg-type] # a twin

    assert aborted.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert aborted.value.detail(RetryInfo).retry_delay.seconds == 1
    assert (beyond.reads, beyond.written) == (0, [])
    assert alone.status == "SUCCESS"


async def test_draining_ends_an_open_stream_after_its_answers() -> None:
    async with Door().open() as door, asyncio.TaskGroup() as group:
        context = FakeContext([batch("a")])
        call = group.create_task(_aborted(door, context))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(1):
            await door.servicer.drain()
        aborted = await call

    assert aborted.code is grpc.StatusCode.UNAVAILABLE
    assert [len(answer.responses) for answer in context.written] == [1]


async def test_cancelled_call_does_not_cancel_what_was_handed_over() -> None:
    class Slow(FakeProcessing):
        def __init__(self) -> None:
            super().__init__()
            self.go_on = asyncio.Event()

        async def process(self, events: Sequence[Envelope]) -> list[Outcome]:
            await self.go_on.wait()
            return await super().process(events)

    slow = Slow()
    async with Door(slow).open() as door, asyncio.TaskGroup() as group:
        call = group.create_task(door.ingest(request("a")))
        await asyncio.sleep(0.05)
        call.cancel()
        await asyncio.wait([call])
        slow.go_on.set()

    assert [event.idempotency_key for event in slow.events] == ["a"]


async def _aborted(door: Door, context: FakeContext) -> AbortedError:
    with pytest.raises(AbortedError) as aborted:
        await door.servicer.ingest_stream(None, context)  # type: ignore[arg-type] # a twin
    return aborted.value
