"""The client for those who send events to EtlPay.

`QueueClient` publishes through RabbitMQ. `etlpay_pb2` and `etlpay_pb2_grpc` are the generated code for gRPC.
"""

from etlpay_client.errors import OutcomeUnknownError, QueueClientError, UnavailableError
from etlpay_client.queue import QueueClient

__all__ = ["OutcomeUnknownError", "QueueClient", "QueueClientError", "UnavailableError"]
