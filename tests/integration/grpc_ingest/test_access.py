"""gRPC on a real socket: TLS, certificates of clients, API keys."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_status import rpc_status

from etlpay_client import etlpay_pb2 as pb
from etlpay_client.etlpay_pb2_grpc import EtlServiceStub
from grpc_ingest.service import build_calls, build_servicer, serve
from grpc_ingest.settings import Settings
from shared.auth.authenticator import Access
from shared.auth.keys import generate_key
from shared.batching import BatcherLimits
from shared.contracts.errors import FatalError
from shared.runtime.rpc_connections import RpcConnections
from shared.runtime.rpc_server import build_server, listen
from shared.submit.submitter import Submitter
from shared.testing.processing import FakeProcessing
from shared.testing.publisher import FakePublisher
from support.keys import write_keys
from support.tls import Certificates

KEY = generate_key()
CALL_SECONDS_MAX = 10


@dataclass
class GrpcApi:
    """A running server over fakes."""

    port: int
    processing: FakeProcessing

    @asynccontextmanager
    async def stub(self, credentials: grpc.ChannelCredentials | None = None) -> AsyncIterator[Any]:
        """Open a client."""
        target = f"127.0.0.1:{self.port}"
        channel = grpc.aio.secure_channel(target, credentials) if credentials else grpc.aio.insecure_channel(target)
        async with channel:
            yield EtlServiceStub(channel)


@asynccontextmanager
async def run_api(access: Access | None = None, tls: dict[str, str] | None = None) -> AsyncIterator[GrpcApi]:
    settings = Settings(**(tls or {}))  # type: ignore[arg-type]  # settings of any type
    processing = FakeProcessing()
    submitter = Submitter(processing, FakePublisher(), limits=BatcherLimits(), fallback_to_queue=True)
    calls = build_calls(settings, RpcConnections(settings.rpc_connections_max))
    servicer = build_servicer(settings, submitter, access or Access(None), calls)
    server = build_server(settings)
    server.add_generic_rpc_handlers((servicer.handler(),))
    port = listen(server, "127.0.0.1:0", settings)
    async with asyncio.TaskGroup() as group:
        group.create_task(submitter.run())
        await server.start()
        try:
            yield GrpcApi(port, processing)
        finally:
            await server.stop(0)
            submitter.close()


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture
def access(tmp_path: Path) -> Access:
    """The access of one key."""
    return Access(write_keys(tmp_path / "keys.toml", (KEY, "shop", "shop*")))


def request(source: str = "shop") -> pb.IngestRequest:
    return pb.IngestRequest(source_name=source, payload_json='{"value": 1}')


def bearer(key: str = KEY) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


async def refusal(call: Any) -> grpc.aio.AioRpcError:  # noqa: ANN401 - a call of any kind
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value


def detail(error: grpc.aio.AioRpcError, kind: type[Any]) -> Any:  # noqa: ANN401 - a message of that kind
    """Return the detail of this kind, read as a foreign client would."""
    status = rpc_status.from_call(error)
    assert status is not None
    for packed in status.details:
        found = kind()
        if packed.Unpack(found):
            return found
    raise AssertionError(kind)


async def test_an_event_is_stored_over_tls_and_nothing_is_spoken_in_the_clear(certificates: Certificates) -> None:
    async with run_api(tls=certificates.settings()) as api:
        async with api.stub(grpc.ssl_channel_credentials(certificates.ca.read_bytes())) as stub:
            response = await stub.Ingest(request(), timeout=CALL_SECONDS_MAX)
        async with api.stub() as stub:
            refused = await refusal(stub.Ingest(request(), timeout=CALL_SECONDS_MAX))

    assert response.status == "SUCCESS"
    assert refused.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_client_without_a_certificate_is_turned_away_where_one_is_asked_for(certificates: Certificates) -> None:
    ca = certificates.ca.read_bytes()
    async with run_api(tls=certificates.settings(clients=True)) as api:
        async with api.stub(grpc.ssl_channel_credentials(ca)) as stub:
            refused = await refusal(stub.Ingest(request(), timeout=CALL_SECONDS_MAX))
        own = grpc.ssl_channel_credentials(
            ca, certificates.client_key.read_bytes(), certificates.client_cert.read_bytes()
        )
        async with api.stub(own) as stub:
            response = await stub.Ingest(request(), timeout=CALL_SECONDS_MAX)

    assert refused.code() is grpc.StatusCode.UNAVAILABLE
    assert response.status == "SUCCESS"


@pytest.mark.parametrize("metadata", [(), bearer(generate_key()), (("authorization", KEY),), bearer() + bearer()])
async def test_a_call_without_a_valid_key_is_unauthenticated(
    access: Access, metadata: tuple[tuple[str, str], ...]
) -> None:
    async with run_api(access) as api, api.stub() as stub:
        batch = pb.IngestBatchRequest(requests=[request()])
        options = {"metadata": metadata, "timeout": CALL_SECONDS_MAX}
        refusals = [
            await refusal(stub.Ingest(request(), **options)),
            await refusal(stub.IngestBatch(batch, **options)),
            await refusal(stub.IngestStream(iter([batch]), **options).read()),
        ]

    assert {refused.code() for refused in refusals} == {grpc.StatusCode.UNAUTHENTICATED}
    assert {detail(refused, ErrorInfo).reason for refused in refusals} == {"API_KEY_INVALID"}
    assert api.processing.events == []


async def test_an_event_of_another_source_is_denied_and_one_of_the_keys_is_stored(access: Access) -> None:
    async with run_api(access) as api, api.stub() as stub:
        stored = await stub.Ingest(request("shop-1"), metadata=bearer(), timeout=CALL_SECONDS_MAX)
        refused = await refusal(stub.Ingest(request("bank"), metadata=bearer(), timeout=CALL_SECONDS_MAX))

    assert stored.status == "SUCCESS"
    assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
    assert detail(refused, ErrorInfo).reason == "SOURCE_OUT_OF_SCOPE"
    assert [event.source for event in api.processing.events] == ["shop-1"]


async def test_an_item_of_another_source_is_refused_without_failing_the_others(access: Access) -> None:
    batch = pb.IngestBatchRequest(requests=[request(), request("bank"), request()])
    async with run_api(access) as api, api.stub() as stub:
        answer = await stub.IngestBatch(batch, metadata=bearer(), timeout=CALL_SECONDS_MAX)
        stream = stub.IngestStream(iter([batch]), metadata=bearer(), timeout=CALL_SECONDS_MAX)
        streamed = await stream.read()

    for responses in (answer.responses, streamed.responses):
        assert [response.status for response in responses] == ["SUCCESS", "REFUSED", "SUCCESS"]
        assert [problem.pointer for problem in responses[1].problems] == ["/source_name"]


async def test_a_key_that_is_revoked_ends_its_open_stream(tmp_path: Path) -> None:
    path = write_keys(tmp_path / "keys.toml", (KEY, "shop", "*"))
    batch = pb.IngestBatchRequest(requests=[request()])
    async with run_api(Access(path)) as api, api.stub() as stub:
        stream = stub.IngestStream(metadata=bearer(), timeout=CALL_SECONDS_MAX)
        await stream.write(batch)
        first = await stream.read()
        write_keys(path)
        await asyncio.sleep(1.1)
        await stream.write(batch)

        refused = await refusal(stream.read())

    assert [response.status for response in first.responses] == ["SUCCESS"]
    assert refused.code() is grpc.StatusCode.UNAUTHENTICATED
    assert len(api.processing.events) == 1


async def test_over_the_rate_a_call_is_told_when_to_come_back(tmp_path: Path) -> None:
    path = write_keys(tmp_path / "keys.toml", (KEY, "shop", "*"))
    batch = pb.IngestBatchRequest(requests=[request()] * 50)
    async with run_api(Access(path, rate=1)) as api, api.stub() as stub:
        await stub.IngestBatch(batch, metadata=bearer(), timeout=CALL_SECONDS_MAX)
        refused = await refusal(stub.Ingest(request(), metadata=bearer(), timeout=CALL_SECONDS_MAX))

    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert 40 < detail(refused, RetryInfo).retry_delay.seconds <= 50
    assert len(api.processing.events) == 50


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"grpc_host": "0.0.0.0"}, "ETLPAY_ALLOW_ANONYMOUS"),  # noqa: S104 - what must be refused
        ({"grpc_host": "[::]"}, "ETLPAY_ALLOW_ANONYMOUS"),
        ({"api_keys_file": "/nowhere"}, "API keys"),
        ({"tls_cert_file": "/nowhere", "tls_key_file": "/nowhere"}, "TLS"),
    ],
)
async def test_the_service_does_not_start_open_to_the_network_or_without_its_files(
    settings: dict[str, str], reason: str
) -> None:
    chosen = Settings(grpc_port=0, **settings)  # type: ignore[arg-type]  # settings of any type

    with pytest.RaisesGroup(FatalError, flatten_subgroups=True, allow_unwrapped=True) as refused:
        async with asyncio.timeout(20):
            await serve(chosen, asyncio.Event())

    assert reason in str(refused.value.exceptions if isinstance(refused.value, ExceptionGroup) else refused.value)
