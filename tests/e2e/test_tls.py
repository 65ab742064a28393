"""With compose.tls.yaml nothing between the services is in the clear, and all channels work."""

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aio_pika
import grpc.aio
import msgspec
import pytest

from etlpay_cli.certificates import CA_NAME, CERT_NAME, KEY_NAME
from etlpay_client import etlpay_pb2
from etlpay_client.etlpay_pb2_grpc import EtlServiceStub
from support.servers import docker_is_here
from support.stack import Stack, run_stack, until

pytestmark = pytest.mark.skipif(not docker_is_here(), reason="there is no Docker engine here")

PROJECT = "etlpay-test-tls"
HANDSHAKES = Path(__file__).parents[1] / "support" / "handshakes.py"
QUEUE_SOURCE = "queue-worker-demo"


@pytest.fixture(scope="module")
def tls_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole system as containers that speak TLS with one another."""
    folder = tmp_path_factory.mktemp("tls-stack")
    settings = {"ETLPAY_PROJECT": PROJECT, "COMPOSE_FILE": "compose.yaml:compose.tls.yaml"}
    with run_stack("docker", folder, **settings) as running:
        yield running


def docker(stack: Stack, *arguments: str, text: str = "") -> str:
    done = subprocess.run(
        ("docker", *arguments),
        input=text,
        cwd=stack.root,
        env=stack.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def producers_tls(tls_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """What a producer shows to the broker: the certificate that the stack keeps for those outside."""
    folder = tmp_path_factory.mktemp("producer")
    files = "pathlib.Path('/secrets/operator').glob('*.pem')"
    read = f"import json, pathlib; print(json.dumps({{path.name: path.read_text() for path in {files}}}))"
    printed = docker(
        tls_stack, *("compose", "run", "--rm", "--no-deps", "-T", "--entrypoint", "python", "provision", "-c", read)
    )
    for name, content in msgspec.json.decode(printed, type=dict[str, str]).items():
        (folder / name).write_text(content)
    context = ssl.create_default_context(cafile=str(folder / CA_NAME))
    context.load_cert_chain(folder / CERT_NAME, folder / KEY_NAME)
    return context


def test_a_server_answers_only_who_shows_a_certificate(tls_stack: Stack) -> None:
    printed = docker(
        tls_stack, "exec", "-i", f"{PROJECT}-api-gateway-1", "python", "-", text=HANDSHAKES.read_text(encoding="utf-8")
    )

    found: dict[str, dict[str, bool]] = msgspec.json.decode(printed)
    alike = {"in the clear": False, "without a certificate": False, "with a certificate": True}
    assert found == dict.fromkeys(("processor", "rabbitmq", "redis", "postgres"), alike)


async def test_an_event_of_each_channel_is_stored(tls_stack: Stack, producers_tls: ssl.SSLContext, source: str) -> None:
    async with tls_stack.client() as client:
        over_http = await client.post("/api/ingest", json={"source_name": source, "payload": {"by": "http"}})
        ready = await client.get("/readyz")
    async with grpc.aio.insecure_channel(tls_stack.grpc) as connected:
        request = etlpay_pb2.IngestRequest(source_name=source, payload_json='{"by": "grpc"}')
        over_grpc = await EtlServiceStub(connected).Ingest(request, timeout=10)
    tls_stack.drop(source, "one.ndjson", b'{"by": "file"}\n')
    secured = tls_stack.amqp.replace("amqp://", "amqps://")
    async with await aio_pika.connect(secured, ssl_context=producers_tls) as connection:
        exchange = await (await connection.channel(on_return_raises=True)).get_exchange("etlpay.events", ensure=False)
        message = aio_pika.Message(b'{"by": "queue"}', headers={"ce-id": source})
        await exchange.publish(message, routing_key="etl-queue")

    # 201 and SUCCESS: the processor itself has answered, over TLS.
    assert over_http.status_code == 201
    assert over_grpc.status == "SUCCESS"
    assert ready.status_code == 200
    assert await channels_of(tls_stack, source, count=3) == {"http", "grpc", "file"}
    assert await channels_of(tls_stack, QUEUE_SOURCE, count=1) == {"queue"}


async def channels_of(stack: Stack, source: str, *, count: int) -> set[str]:
    """Return the channels by which events of a source came in, once there are so many."""

    async def ask() -> set[str]:
        async with stack.client() as client:
            answer = (await client.get("/api/processed-records", params={"source": source})).json()
        return {item["channel"] for item in answer["items"]}

    return await until(ask, lambda found: len(found) >= count, seconds_max=20)
