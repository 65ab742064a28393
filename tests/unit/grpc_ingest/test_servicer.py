"""The calls of `etlpay.EtlService`, on the fakes of the processor and of RabbitMQ, without a socket."""

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
from support.calls import AbortedError, FakeContext, GrpcApi, batch, request


async def test_event_is_stored_and_answered_with_its_record() -> None:
    async with GrpcApi().open() as api:
        response = await api.ingest(request("a"))

    assert (response.status, response.id) == ("SUCCESS", 1)
    assert [event.body for event in api.processing.events] == [b'{"value": 1}']


async def test_same_id_again_answers_the_first_record() -> None:
    async with GrpcApi().open() as api:
        first, again = await api.ingest(request("a")), await api.ingest(request("a"))

    assert (first.id, False, True) == (again.id, first.duplicate, again.duplicate)


async def test_same_id_with_other_content_already_exists() -> None:
    async with GrpcApi().open() as api:
        await api.ingest(request("a"))
        aborted = await api.refusal(request("a", '{"value": 2}'))

    assert aborted.code is grpc.StatusCode.ALREADY_EXISTS
    info = aborted.detail(ErrorInfo)
    assert (info.reason, info.domain) == ("CONFLICT", "etlpay")


async def test_refused_event_names_its_fields_and_is_absent() -> None:
    async with GrpcApi().open() as api:
        aborted = await api.refusal(request("a", "not json", source="a\nb"))

    assert aborted.code is grpc.StatusCode.INVALID_ARGUMENT
    fields = [violation.field for violation in aborted.detail(BadRequest).field_violations]
    assert fields == ["source_name", "payload_json"]
    assert api.processing.events == []


@pytest.mark.parametrize(
    "garbage",
    [b"\xff\xff\xff\xff", b"\x0a\x02\xff\xfe", b"\x12\x04\xed\xa0\x80x", b"{}" * 50],
    ids=["no protobuf", "no UTF-8", "surrogate", "json"],
)
async def test_bytes_that_are_no_request_are_refused(garbage: bytes) -> None:
    async with GrpcApi().open() as api:
        aborted = await api.refusal(garbage)

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
    async with GrpcApi(fallback=0).open() as api:
        api.processing.away = error
        aborted = await api.refusal(request("a"))

    assert aborted.code is code
    assert aborted.detail(RetryInfo).retry_delay.seconds == 1


async def test_fault_of_ours_tells_nothing_of_the_event() -> None:
    class Broken(FakeProcessing):
        async def process(self, events: Sequence[Envelope]) -> list[Recorded]:
            raise ValueError(events[0].body)

    async with GrpcApi(Broken()).open() as api:
        with pytest.raises(AbortedError) as aborted:
            await api.ingest(request("a", '{"card": "4111"}'))

    assert aborted.value.code is grpc.StatusCode.INTERNAL
    assert "4111" not in str(aborted.value)


async def test_event_is_accepted_while_the_processor_is_away() -> None:
    async with GrpcApi().open() as api:
        api.processing.away = UnavailableError("away")
        response = await api.ingest(request("a"))

    assert (response.status, response.id) == ("ACCEPTED", 0)
    assert [event.idempotency_key for event in api.publisher.events] == ["a"]


async def test_client_that_prefers_not_to_wait_is_answered_from_the_queue() -> None:
    async with GrpcApi().open() as api:
        response = await api.ingest(request("a"), prefer="foo, Respond-Async")

    assert response.status == "ACCEPTED"
    assert api.processing.events == []
    assert [event.idempotency_key for event in api.publisher.events] == ["a"]


async def test_batch_answers_each_request_in_order() -> None:
    async with GrpcApi().open() as api:
        await api.ingest(request("kept"))
        responses = await api.ingest_batch(
            request("one"), request("two", "[]"), request("kept", "{}"), request("one"), request("three")
        )

    assert [response.status for response in responses] == ["SUCCESS", "REFUSED", "CONFLICT", "SUCCESS", "SUCCESS"]
    assert [response.duplicate for response in responses] == [False, False, False, True, False]
    assert responses[1].problems[0].pointer == "/payload_json"


async def test_batch_that_cannot_be_handed_over_is_unknown_beside_what_was_refused() -> None:
    async with GrpcApi(fallback=0).open() as api:
        api.processing.away = UnavailableError("away")
        responses = await api.ingest_batch(request("one"), request("two", "[]"))

    assert [response.status for response in responses] == ["UNKNOWN", "REFUSED"]


async def test_batch_over_the_limit_is_refused_as_a_whole() -> None:
    async with GrpcApi().open() as api:
        with pytest.raises(AbortedError) as aborted:
            await api.ingest_batch(*[request(str(number)) for number in range(11)])

    assert aborted.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert api.processing.events == []


async def test_empty_batch_has_an_empty_answer() -> None:
    async with GrpcApi().open() as api:
        assert await api.ingest_batch() == []


async def test_large_batch_goes_over_in_pieces_and_comes_back_in_order() -> None:
    async with GrpcApi(batch_bytes_max=1_000).open() as api:
        responses = await api.ingest_batch(*[request(str(number)) for number in range(10)])

    assert len(api.processing.batches) > 1
    assert [*range(1, 11)] == [response.id for response in responses]


async def test_stream_answers_batch_by_batch_in_order() -> None:
    async with GrpcApi().open() as api:
        context = FakeContext([batch("a", "b"), batch("c"), batch()])
        context.open.set()
        await api.servicer.ingest_stream(None, context)  # type: ignore[arg-type] # a fake

    assert [len(answer.responses) for answer in context.written] == [2, 1, 0]


async def test_stream_is_not_read_while_its_batches_are_not_answered() -> None:
    async with GrpcApi().open() as api, asyncio.TaskGroup() as group:
        context = FakeContext([batch(str(number)) for number in range(9)])
        context.writable.clear()
        call = group.create_task(api.servicer.ingest_stream(None, context))  # type: ignore[arg-type] # a fake
        await asyncio.sleep(0.05)
        reads_while_blocked = context.reads
        context.writable.set()
        context.open.set()
        await call

    assert reads_while_blocked == 2
    assert len(context.written) == 9
