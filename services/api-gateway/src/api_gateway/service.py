"""The composition root: the parts of the gateway, in the order in which they start."""

import asyncio
import ssl
from typing import Final

import uvicorn

from api_gateway.app import Gateway, build_app, query_routers
from api_gateway.health import INTAKE, ReadinessMonitor
from api_gateway.http.protocol import bounded_protocol
from api_gateway.http.whole import whole_protocol
from api_gateway.http.workers import inherited_listener, pin_to_cpu, stop_with_parent
from api_gateway.queries.ledger import Ledger, open_reader
from api_gateway.settings import GatewaySettings
from api_gateway.trials.process import Trials
from shared.auth.authenticator import open_access
from shared.cache import Cache
from shared.contracts.event import Channel
from shared.counters import TALLY
from shared.messaging.publisher import READY as RABBITMQ
from shared.messaging.publisher import Publisher
from shared.messaging.receipts import ReceiptSender
from shared.runtime.ops import HttpServer, OpsServer
from shared.runtime.readiness import Readiness
from shared.runtime.service import Periodic, running
from shared.submit.processing import GrpcProcessing
from shared.submit.submitter import Submitter

_LOOK_SECONDS: Final = 2.0


async def serve(settings: GatewaySettings, stopping: asyncio.Event) -> None:
    """Serve until `stopping`; then finish the requests in flight, and write what they submitted.

    Raises:
        FatalError: the port is taken, a file of keys or certificates cannot be used, the port would be open
            without keys, RabbitMQ refuses this service, or there is no such CPU.
    """
    pin_to_cpu(settings)
    access = open_access(settings, host=settings.http_host, host_setting="ETLPAY_HTTP_HOST")
    readiness, broker = Readiness(INTAKE, stopping=stopping), Readiness(RABBITMQ)
    publisher = Publisher(settings, name="api-gateway", readiness=broker)
    processing = GrpcProcessing(settings)
    receipts = ReceiptSender(
        publisher,
        TALLY,
        service="api-gateway",
        channel=Channel.HTTP,
        interval_seconds=settings.receipt_seconds,
        report=processing.report,
    )
    cache = Cache.connect(settings)
    reader = await open_reader(settings)
    ledger = Ledger(reader, page_bytes_max=settings.page_bytes_max, seconds_max=settings.postgres_seconds_max)
    submitter = Submitter(processing, publisher, limits=settings.batch, fallback_to_queue=settings.fallback_to_queue)
    watch = ReadinessMonitor(
        readiness,
        processing=processing,
        ledger=ledger,
        cache=cache,
        broker=broker,
        access=access,
        fallback_to_queue=settings.fallback_to_queue,
    )
    app = build_app(
        submitter=submitter,
        cache=cache,
        queries=query_routers(ledger, publisher, cache, settings),
        trials=Trials(),
        readiness=readiness,
        access=access,
        settings=settings,
    )
    stop_with_parent(settings, stopping)
    try:
        async with (
            running(OpsServer(readiness, host=settings.ops_host, port=settings.ops_port)),
            running(publisher),
            running(receipts),
            running(submitter),
            running(Periodic(watch.look, seconds=_LOOK_SECONDS)),
        ):
            await receipts.opened(stopping)
            async with running(HttpServer(server_config(app, settings), inherited_listener(settings))):
                await stopping.wait()
    finally:
        await processing.close()
        await ledger.close()
        await cache.close()


def server_config(app: Gateway, settings: GatewaySettings) -> uvicorn.Config:
    """Return the HTTP server's configuration, with its limits."""
    protocol = bounded_protocol(
        head_seconds_max=settings.http_head_seconds_max,
        head_bytes_max=settings.http_head_bytes_max,
        send_seconds_max=settings.http_send_seconds_max,
        answer_seconds_max=settings.http_answer_seconds_max,
        connections_max=settings.http_connections_max,
        caller_share_max=settings.caller_share_max,
    )
    return uvicorn.Config(
        app,
        host=settings.http_host,
        port=settings.http_port,
        http=whole_protocol(protocol, app.serve_whole, body_bytes_max=settings.body_bytes_max),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=settings.http_backlog,
        timeout_keep_alive=settings.http_keep_alive_seconds,
        ssl_certfile=settings.tls_cert_file or None,
        ssl_keyfile=settings.tls_key_file or None,
        ssl_ca_certs=settings.tls_client_ca_file or None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if settings.tls_client_ca_file else ssl.CERT_NONE,
    )
