"""RabbitMQ, and the only place that knows its client library.

`QueueClient` is the small client for those who publish events to EtlPay.
"""

from shared.messaging.client import QueueClient

__all__ = ["QueueClient"]
