"""Settings of the API gateway."""

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from shared.batching import BatcherLimits
from shared.settings import (
    AccessSettings,
    FairnessSettings,
    PostgresPoolSettings,
    PublisherSettings,
    RedisSettings,
    ServiceSettings,
    SubmissionSettings,
    TlsSettings,
)

_MIB = 1024 * 1024


class GatewaySettings(
    ServiceSettings,
    PublisherSettings,
    PostgresPoolSettings,
    RedisSettings,
    SubmissionSettings,
    AccessSettings,
    FairnessSettings,
    TlsSettings,
):
    """Settings of `python -m api_gateway`."""

    http_host: str = Field("127.0.0.1", description="where the HTTP server listens")
    http_port: int = Field(8000, ge=0, le=65535, description="port of the HTTP server; 0: a free one")
    http_workers: PositiveInt = Field(
        1, description="gateways behind the port, each with a core; the port of /metrics of each is one higher"
    )
    http_cpu: NonNegativeInt | None = Field(
        None, description="number of the CPU that the gateway keeps to, of several workers each to the next; unset: any"
    )
    http_socket: NonNegativeInt | None = Field(
        None, description="number of the listening socket that a worker inherits; unset: it opens its own"
    )
    http_allowed_hosts: str = Field(
        "",
        description="without API keys: host names, commas between, by which the gateway may be asked for, besides "
        "localhost, addresses and ETLPAY_HTTP_HOST, and whose pages may ask; *: any",
    )
    http_docs: bool | None = Field(
        None, description="serve /docs and /openapi.json; unset: only where no API keys are asked for"
    )
    http_backlog: PositiveInt = Field(512, description="connections that may wait to be taken")
    http_connections_max: PositiveInt = Field(
        1_000, description="open connections; for another one an idle one is closed, or it gets 503"
    )
    http_requests_max: PositiveInt = Field(500, description="requests in flight; beyond it a request gets 503")
    http_pages_max: PositiveInt = Field(
        32, description="requests for documents and metrics in flight; beyond it one gets 503"
    )
    # Longer than the 60 s for which client pools and load balancers keep a connection, so that they find it open.
    http_keep_alive_seconds: PositiveInt = Field(75, description="how long an idle connection stays open")
    http_head_seconds_max: PositiveFloat = Field(10.0, description="how long the head of a request may take to arrive")
    http_head_bytes_max: PositiveInt = Field(16 * 1024, description="size of the head of a request")
    http_body_seconds_max: PositiveFloat = Field(
        10.0, description="how long a body may take to arrive; of a batch: how long it may pause"
    )
    http_send_seconds_max: PositiveFloat = Field(
        10.0, description="how long a client may read nothing of an answer; then the connection is closed"
    )
    http_answer_seconds_max: PositiveFloat = Field(60.0, description="how long a client may take to read an answer")
    body_bytes_max: PositiveInt = Field(_MIB, description="size of one event as it is sent, in a batch too")
    bodies_bytes_max: PositiveInt = Field(8 * _MIB, description="size of all single events until they are answered")
    http_batch_request_bytes_max: PositiveInt = Field(64 * _MIB, description="size of a batch request")
    http_batch_request_events_max: PositiveInt = Field(100_000, description="events of a batch request")
    http_batch_request_seconds_max: PositiveFloat = Field(
        300.0, description="how long a batch request may take to arrive"
    )
    http_batch_request_bytes_per_second_min: PositiveInt = Field(
        1_024, description="how fast a batch request must arrive, after its first ETLPAY_HTTP_BODY_SECONDS_MAX"
    )
    http_batch_request_results_bytes_max: PositiveInt = Field(
        32 * _MIB, description="size of all results of batch requests until they are read"
    )
    http_batch_requests_max: PositiveInt = Field(4, description="batch requests in flight; beyond it one gets 503")
    http_batch_request_group_events: PositiveInt = Field(
        250, description="events of a batch request that are submitted together"
    )
    http_batch_request_group_bytes: PositiveInt = Field(
        _MIB // 4, description="bytes of a batch request that are submitted together"
    )
    http_batch_request_groups_in_flight_max: PositiveInt = Field(
        8, description="groups of one batch request that are submitted at the same time"
    )
    http_batch_request_wait_seconds_max: PositiveFloat = Field(
        10.0, description="how long a batch request waits where the backlog is full"
    )
    page_bytes_max: PositiveInt = Field(
        _MIB, description="a page of records ends before it would grow beyond this; a larger record is one of its own"
    )
    queries_max: PositiveInt = Field(8, description="queries until their answers are read; beyond it one waits")
    query_wait_seconds_max: PositiveFloat = Field(5.0, description="how long a query may wait; then it gets 503")
    queries_rate_per_key: NonNegativeFloat | None = Field(
        None, description="queries a second of one caller; unset: as many as ETLPAY_RATE_PER_KEY, 0: no limit"
    )
    audit_seconds_max: PositiveFloat = Field(
        1.0, description="how long an audit of an hour, or of a part of it, may keep PostgreSQL; one runs at a time"
    )
    # Single events come in convoys, all answered at once: the halves of one overlap, one being mapped while the other
    # is stored. 64 connections, 850 bytes: 7,100 a second instead of 5,200 in batches of all that there is.
    batch: BatcherLimits = Field(
        BatcherLimits(events_max=32, in_flight_max=16),
        description="limits of the batches that go to the processor or to RabbitMQ",
    )
