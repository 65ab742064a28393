"""The calls of `etlpay.EtlService`, on the twins of the processor and of RabbitMQ, without a socket."""

import asyncio
from collections.abc import Sequence

import grpc
import grpc.aio
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo

from shared.contracts.errors import OutcomeUnknownError, OverloadedError, RetryableError, UnavailableError
from shared.contracts.event import Envelope
from shared.contracts.result import Recorded
from shared.testing.processing import FakeProcessing
from support.calls import AbortedError, Door, FakeContext, batch, request


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
        aborted = await door.refusal(request("a", "not json", source="a\nb"))

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
        async def process(self, events: Sequence[Envelope]) -> list[Recorded]:
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
