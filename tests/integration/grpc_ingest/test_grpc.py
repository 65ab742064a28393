"""grpc-ingest as its clients meet it: a real server, a real RabbitMQ, and a processor that can go away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import aio_pika
import grpc
import grpc.aio
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from etlpay_client import etlpay_pb2 as pb
from etlpay_client.etlpay_pb2_grpc import EtlServiceStub
from grpc_ingest.service import serve
from grpc_ingest.settings import Settings
from shared.messaging.topology import INGEST_QUEUE, declare_ingest_queues
from shared.rpc import processing_pb2
from shared.rpc.processing_pb2_grpc import ProcessingServicer, add_ProcessingServicer_to_server
from shared.testing.processing import FakeProcessing
from shared.wire import decode_batch, read_batch, result_message
from support.servers import Servers, free_port

SERVING = health_pb2.HealthCheckResponse.SERVING
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Processor(ProcessingServicer):
    """The processor's gRPC service on a ledger in memory; answers only while `go_on` is set."""

    def __init__(self) -> None:
        self.ledger = FakeProcessing()
        self.called = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def Process(  # noqa: N802 - the name in the proto
        self, requests: AsyncIterator[processing_pb2.EventBatch], _: object
    ) -> AsyncIterator[processing_pb2.OutcomeBatch]:
        async for request in requests:
            self.called.set()
            await self.go_on.wait()
            yield result_message(await self.ledger.process(read_batch(request)))

    async def Report(self, _: processing_pb2.Receipt, __: object) -> processing_pb2.Reported:  # noqa: N802 - as above
        return processing_pb2.Reported()


class GrpcApi:
    """A running grpc-ingest."""

    def __init__(self, address: str, processor: Processor) -> None:
        self.address = address
        self.processor = processor
        self.stopping = asyncio.Event()
        self.grpc_channel = grpc.aio.insecure_channel(address)
        self.stub = EtlServiceStub(self.grpc_channel)

    async def health(self, service: str = "") -> int:
        stub = health_pb2_grpc.HealthStub(self.grpc_channel)
        status: int = (await stub.Check(health_pb2.HealthCheckRequest(service=service), wait_for_ready=True)).status
        return status


@asynccontextmanager
async def run_api(servers: Servers, *, processor_is_here: bool = True, **settings: object) -> AsyncIterator[GrpcApi]:
    port, processing_port = free_port(), free_port()
    processor = Processor()
    server = grpc.aio.server()
    add_ProcessingServicer_to_server(processor, server)
    if processor_is_here:
        server.add_insecure_port(f"127.0.0.1:{processing_port}")
        await server.start()
    values = {
        "amqp_url": f"amqp://operator@{servers.amqp_host}:{servers.amqp_port}/",
        "amqp_password": servers.amqp_password,
        "grpc_port": port,
        "processor_target": f"127.0.0.1:{processing_port}",
    }
    api = GrpcApi(f"127.0.0.1:{port}", processor)
    try:
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(serve(Settings.model_validate(values | settings), api.stopping))
            async with asyncio.timeout(20):
                while await api.health() != SERVING:  # noqa: ASYNC110 - only asking tells
                    await asyncio.sleep(0.1)
            yield api
            api.stopping.set()
            async with asyncio.timeout(20):
                await serving
    finally:
        await api.grpc_channel.close()
        await server.stop(grace=None)


@pytest.fixture
async def api(servers: Servers) -> AsyncIterator[GrpcApi]:
    async with run_api(servers) as running:
        yield running


def request(key: str = "", payload: str = '{"value": 1}', source: str = "grpc-demo") -> pb.IngestRequest:
    return pb.IngestRequest(source_name=source, payload_json=payload, id=key)


async def test_event_is_answered_with_its_record(api: GrpcApi) -> None:
    response = await api.stub.Ingest(request("a"))

    assert (response.status, response.id) == ("SUCCESS", 1)


async def test_errors_carry_details_that_a_client_can_decode(api: GrpcApi) -> None:
    await api.stub.Ingest(request("a"))

    with pytest.raises(grpc.aio.AioRpcError) as conflict:
        await api.stub.Ingest(request("a", "{}"))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await api.stub.Ingest(request(payload="[]"))

    info, bad = ErrorInfo(), BadRequest()
    assert rpc_status.from_call(conflict.value).details[0].Unpack(info)
    assert rpc_status.from_call(refused.value).details[0].Unpack(bad)
    assert (conflict.value.code(), info.reason) == (grpc.StatusCode.ALREADY_EXISTS, "CONFLICT")
    assert (refused.value.code(), bad.field_violations[0].field) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "payload_json",
    )


@pytest.mark.parametrize("method", ["Ingest", "IngestBatch"])
@pytest.mark.parametrize("garbage", [b"\xff\xff\xff", b"\x0a\x02\xff\xfe", b"\x0a\x04\x0a\x02\xff\xfe"])
async def test_bytes_that_are_no_request_are_refused(api: GrpcApi, method: str, garbage: bytes) -> None:
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = api.grpc_channel.unary_unary(f"/etlpay.EtlService/{method}")

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(garbage)

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_message_over_the_limit_is_refused_and_the_connection_goes_on(api: GrpcApi) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await api.stub.Ingest(request(payload='{"a": "' + "x" * 9 * 1024 * 1024 + '"}'))

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await api.stub.Ingest(request())).status == "SUCCESS"


async def test_events_wait_in_rabbitmq_while_the_processor_is_away(servers: Servers) -> None:
    connection = await aio_pika.connect(servers.amqp_url)
    async with connection, run_api(servers, processor_is_here=False) as api:
        await declare_ingest_queues(connection)
        amqp_channel = await connection.channel()
        ingest = await amqp_channel.get_queue(INGEST_QUEUE)
        await ingest.purge()

        response = await api.stub.Ingest(request("a"))
        message = await ingest.get()
        await message.ack()

    assert response.status == "ACCEPTED"
    assert [event.body for event in decode_batch(message.body)] == [b'{"value": 1}']


async def test_client_can_prefer_not_to_wait(api: GrpcApi) -> None:
    response = await api.stub.Ingest(request(), metadata=(("prefer", "respond-async"),))

    assert response.status == "ACCEPTED"


async def test_processor_that_does_not_answer_in_time_is_passed_by(servers: Servers) -> None:
    async with run_api(servers, process_seconds_max=0.5) as api:
        api.processor.go_on.clear()
        response = await api.stub.Ingest(request("slow"))
        api.processor.go_on.set()

    assert response.status == "ACCEPTED"


async def test_without_the_fallback_the_client_is_told_to_come_back(servers: Servers) -> None:
    async with run_api(servers, fallback_to_queue=False, process_seconds_max=0.5) as api:
        api.processor.go_on.clear()
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await api.stub.Ingest(request("slow"))
        api.processor.go_on.set()

    retry = RetryInfo()
    assert rpc_status.from_call(unknown.value).details[0].Unpack(retry)
    assert (unknown.value.code(), retry.retry_delay.seconds) == (grpc.StatusCode.UNAVAILABLE, 1)


async def test_cancelled_call_is_stored_all_the_same(api: GrpcApi) -> None:
    api.processor.go_on.clear()
    call = api.stub.Ingest(request("a"))
    await asyncio.wait_for(api.processor.called.wait(), 5)
    call.cancel()
    await asyncio.sleep(0.1)
    api.processor.go_on.set()

    again = await api.stub.Ingest(request("a"))

    assert again.duplicate


async def test_stream_answers_many_batches_in_order(api: GrpcApi) -> None:
    """Several are on their way at once, so the ledger may number a later one first."""
    batches = [pb.IngestBatchRequest(requests=[request(f"{batch}-{n}") for n in range(100)]) for batch in range(30)]

    answers = [answer async for answer in api.stub.IngestStream(iter(batches))]

    assert sorted(response.id for answer in answers for response in answer.responses) == [*range(1, 3_001)]
    for batch, answer in zip(batches, answers, strict=True):
        again = await api.stub.IngestBatch(batch)
        assert [response.id for response in answer.responses] == [response.id for response in again.responses]


async def test_client_that_vanishes_in_mid_stream_leaves_the_server_running(api: GrpcApi) -> None:
    stream = api.stub.IngestStream()
    await stream.write(pb.IngestBatchRequest(requests=[request("a")]))
    await stream.read()

    stream.cancel()
    await asyncio.sleep(0.2)

    assert (await api.stub.Ingest(request("a"))).duplicate


async def test_services_can_be_discovered(api: GrpcApi) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(api.grpc_channel)

    [answer] = [
        answer
        async for answer in stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    ]

    names = {service.name for service in answer.list_services_response.service}
    assert {"etlpay.EtlService", "grpc.health.v1.Health"} <= names
    assert await api.health("etlpay.EtlService") == SERVING


async def test_stopping_lets_calls_in_flight_finish_and_is_told_by_health(servers: Servers) -> None:
    async with run_api(servers) as api:
        watch = health_pb2_grpc.HealthStub(api.grpc_channel).Watch(health_pb2.HealthCheckRequest())
        before = (await watch.read()).status
        stream = api.stub.IngestStream()
        await stream.write(pb.IngestBatchRequest(requests=[request("streamed")]))
        await stream.read()
        api.processor.called.clear()
        api.processor.go_on.clear()
        call = asyncio.ensure_future(api.stub.Ingest(request("a")))
        await asyncio.wait_for(api.processor.called.wait(), 5)

        started = asyncio.get_running_loop().time()
        api.stopping.set()
        after = (await watch.read()).status
        await asyncio.sleep(0.3)
        api.processor.go_on.set()
        response = await call
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await _read_to_end(stream)

    assert (before, after) == (SERVING, NOT_SERVING)
    assert response.status == "SUCCESS"
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert asyncio.get_running_loop().time() - started < 5


WATCH: Final = "/grpc.health.v1.Health/Watch"
CHECK: Final = "/grpc.health.v1.Health/Check"
REFLECT: Final = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


@pytest.mark.parametrize("method", [WATCH, CHECK, REFLECT])
@pytest.mark.parametrize("sends", [True, False], ids=["sent", "silent"])
async def test_calls_of_health_and_reflection_that_stay_open_take_no_place_of_others(
    api: GrpcApi, method: str, *, sends: bool
) -> None:
    """Neither those that listen for ever, nor those whose request never comes."""
    many: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = api.grpc_channel.stream_stream(method)
    calls = [many() for _ in range(128)]
    apart = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(api.address, options=apart) as channel:
        more: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
        calls += [more() for _ in range(128)]
        for call in calls:
            if sends:
                with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await call.write(b"")
        await asyncio.sleep(0.5)
        async with grpc.aio.insecure_channel(api.address, options=apart) as other:
            response = await EtlServiceStub(other).Ingest(request("a"), timeout=10)
        for call in calls:
            call.cancel()

    assert response.status == "SUCCESS"


async def test_a_watcher_is_told_again_when_it_comes_again(servers: Servers) -> None:
    """A stream of health ends well after its time."""
    async with run_api(servers, rpc_watch_seconds_max=0.3) as api:
        watch = health_pb2_grpc.HealthStub(api.grpc_channel).Watch(health_pb2.HealthCheckRequest())
        told = [answer.status async for answer in watch]

        assert (told, await watch.code()) == ([SERVING], grpc.StatusCode.OK)


async def test_a_stream_ends_before_its_connection_with_when_to_come_again(servers: Servers) -> None:
    """What was read is stored and answered; what was not is neither, and the client sends it again."""
    ages: dict[str, Any] = {
        "grpc_stream_age_seconds_max": 1,
        "rpc_connection_age_seconds_max": 1,
        "rpc_connection_grace_seconds": 15,
    }
    async with run_api(servers, **ages) as api:
        answered, go_on = 0, asyncio.Event()

        async def batches() -> AsyncIterator[pb.IngestBatchRequest]:
            # A few, and then silence: the library tells of a message that it could not send instead of why.
            for _ in range(3):
                yield pb.IngestBatchRequest(requests=[request(str(answered))])
                await go_on.wait()
                go_on.clear()
            await go_on.wait()

        async def read() -> None:
            nonlocal answered
            async for _ in api.stub.IngestStream(batches(), timeout=20):
                answered += 1
                go_on.set()

        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await read()
        error = ended.value
        again = await api.stub.Ingest(request(str(answered)))

        stored = [event.idempotency_key for event in api.processor.ledger.events]
        assert sorted(stored, key=int) == [str(number) for number in range(answered + 1)]
    retry = RetryInfo()
    status = rpc_status.from_call(error)
    assert status is not None, error
    assert status.details[0].Unpack(retry)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert retry.retry_delay.ToMilliseconds() == 0
    assert (answered > 1, again.status) == (True, "SUCCESS")


async def test_connections_beyond_the_limit_are_closed_and_calls_are_served(servers: Servers) -> None:
    async with run_api(servers, rpc_connections_max=20) as api:
        host, port = api.address.split(":")
        opened = [await asyncio.open_connection(host, int(port)) for _ in range(300)]
        for _, writer in opened:
            writer.write(PREFACE)
        ended = asyncio.gather(*(_is_closed(reader) for reader, _ in opened))
        async with grpc.aio.insecure_channel(api.address) as channel:
            response = await EtlServiceStub(channel).Ingest(request("a"), timeout=10, wait_for_ready=True)
        closed = sum(await ended)
        for _, writer in opened:
            writer.transport.abort()

    assert response.status == "SUCCESS"
    assert closed >= 270


async def _is_closed(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(10):
            while await reader.read(65_536):
                pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


async def _read_to_end(
    stream: grpc.aio.StreamStreamCall[pb.IngestBatchRequest, pb.IngestBatchResponse],
) -> None:
    while isinstance(await stream.read(), pb.IngestBatchResponse):
        pass


async def test_second_server_on_a_port_fails_instead_of_sharing_it(api: GrpcApi, servers: Servers) -> None:
    with pytest.raises(ExceptionGroup, match="TaskGroup") as failed:
        async with run_api(servers, grpc_port=int(api.address.split(":")[1])):
            await asyncio.sleep(5)

    assert "cannot listen" in repr(failed.value)
