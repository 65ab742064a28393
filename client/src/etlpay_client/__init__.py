"""The client for those who send events to EtlPay, and for those who read what is stored.

`QueueClient` publishes through RabbitMQ. `etlpay_pb2` and `etlpay_pb2_grpc` are the generated code for gRPC.
`etlpay_client.ledger` follows the ledger; it needs the extra `http`.
"""

from etlpay_client.errors import (
    ApiError,
    ApiUnavailableError,
    OutcomeUnknownError,
    QueueClientError,
    UnavailableError,
)
from etlpay_client.queue import QueueClient

__all__ = [
    "ApiError",
    "ApiUnavailableError",
    "OutcomeUnknownError",
    "QueueClient",
    "QueueClientError",
    "UnavailableError",
]
