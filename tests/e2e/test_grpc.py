"""The gRPC channel of the running system."""

from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

from etlpay_client.etlpay_pb2 import IngestBatchRequest, IngestRequest
from etlpay_client.etlpay_pb2_grpc import EtlServiceStub
from support.stack import Stack


@pytest.fixture
async def grpc_channel(stack: Stack) -> AsyncIterator[grpc.aio.Channel]:
    """A client's channel."""
    async with grpc.aio.insecure_channel(stack.grpc) as connected:
        yield connected


async def test_an_event_is_answered_with_its_record_and_stored_byte_for_byte(
    stack: Stack, source: str, grpc_channel: grpc.aio.Channel
) -> None:
    payload = '{"amount":  1.10, "who": "é"}'

    response = await EtlServiceStub(grpc_channel).Ingest(IngestRequest(source_name=source, payload_json=payload))

    [row] = await stack.events_of(source, count=1)
    assert (response.id, response.status) == (row["record_id"], "SUCCESS")
    assert row["body"] == payload.encode()


async def test_the_same_id_is_a_duplicate_and_other_content_is_refused_as_existing(
    stack: Stack, source: str, grpc_channel: grpc.aio.Channel
) -> None:
    stub = EtlServiceStub(grpc_channel)
    request = IngestRequest(source_name=source, payload_json='{"amount": 1}', id="1")
    first = await stub.Ingest(request)

    again = await stub.Ingest(request)
    with pytest.raises(grpc.aio.AioRpcError) as conflict:
        await stub.Ingest(IngestRequest(source_name=source, payload_json='{"amount": 2}', id="1"))

    assert (again.id, again.duplicate) == (first.id, True)
    assert conflict.value.code() is grpc.StatusCode.ALREADY_EXISTS
    await stack.events_of(source, count=1)


@pytest.mark.parametrize(
    ("source_name", "payload_json", "field"),
    [("", "{}", "source_name"), ("*", "{}", "source_name"), ("x", "", "payload_json"), ("x", "[1]", "payload_json")],
)
async def test_what_cannot_be_an_event_is_refused_with_the_field_and_without_its_value(
    grpc_channel: grpc.aio.Channel, source_name: str, payload_json: str, field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await EtlServiceStub(grpc_channel).Ingest(IngestRequest(source_name=source_name, payload_json=payload_json))

    status = rpc_status.from_call(refused.value)
    assert status is not None
    detail = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(detail)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in detail.field_violations] == [field]


async def test_bytes_that_are_no_message_are_refused(grpc_channel: grpc.aio.Channel) -> None:
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = grpc_channel.unary_unary("/etlpay.EtlService/Ingest")

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(b"\x0a\xff\xff\xff\xff")

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stream_of_batches_answers_each_in_order(
    stack: Stack, source: str, grpc_channel: grpc.aio.Channel
) -> None:
    def batches() -> list[IngestBatchRequest]:
        return [
            IngestBatchRequest(
                requests=[
                    IngestRequest(source_name=source, payload_json='{"n": 1}', id=f"{batch}-{n}") for n in range(50)
                ]
            )
            for batch in range(10)
        ]

    responses = [response async for response in EtlServiceStub(grpc_channel).IngestStream(iter(batches()))]

    assert [len(response.responses) for response in responses] == [50] * 10
    assert {each.status for response in responses for each in response.responses} == {"SUCCESS"}
    rows = await stack.events_of(source, count=500)
    answered = [each.raw_event_id for response in responses for each in response.responses]
    keys = {row["raw_event_id"]: row["idempotency_key"] for row in rows}
    assert [keys[number] for number in answered] == [f"{batch}-{n}" for batch in range(10) for n in range(50)]


async def test_health_and_reflection_answer(stack: Stack, grpc_channel: grpc.aio.Channel) -> None:
    health = await health_pb2_grpc.HealthStub(grpc_channel).Check(health_pb2.HealthCheckRequest())
    with grpc.insecure_channel(stack.grpc) as blocking:
        services = set(ProtoReflectionDescriptorDatabase(blocking).get_services())

    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert {"etlpay.EtlService", "grpc.health.v1.Health"} <= services
