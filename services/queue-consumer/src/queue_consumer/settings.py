"""Settings of the queue consumer."""

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from shared.batching import BatchLimits
from shared.contracts.event import source_problem
from shared.messaging.topology import PARKED_SUFFIX
from shared.settings import QueueBrokerSettings, ServiceSettings

# The broker's limit, without the suffix of the parked queue.
_QUEUE_BYTES_MAX = 255 - len(PARKED_SUFFIX)


class Settings(ServiceSettings, QueueBrokerSettings):
    """Settings of `python -m queue_consumer`."""

    queue: str = Field("etl-queue", description="the foreign queue to read; declared and bound where it is missing")
    queue_source: str = Field("queue", description="source of messages that name none")
    producers_file: str = Field(
        "", description="file of producers (`etlpay producers`); empty, or without any: nobody is bound to sources"
    )
    queue_messages_max: PositiveInt = Field(200, description="messages taken and not yet settled, at most")
    queue_bytes_max: PositiveInt = Field(
        4 * 1024 * 1024, description="bytes of messages taken and not yet settled, about; beyond it no more is read"
    )
    queue_events_max: PositiveInt = Field(
        20_000, description="events of messages that are not published yet; beyond it no further message is decoded"
    )
    queue_interval_seconds: PositiveFloat = Field(
        5.0, description="longest pause between two attempts to publish while the broker refuses"
    )
    queue_message_events_max: PositiveInt = Field(
        50_000, description="events in one message; one with more is kept whole, as one FAILED record"
    )
    # Single messages gather while the last batch is confirmed. More than one batch in flight was no faster: 23,000
    # events a second with one and with two.
    batch: BatchLimits = Field(
        BatchLimits(in_flight_max=1), description="limits of the batches that go to the processor"
    )

    @field_validator("queue")
    @classmethod
    def _check_queue(cls, name: str) -> str:
        if not 0 < len(name.encode()) <= _QUEUE_BYTES_MAX:
            raise ValueError(f"must be 1 to {_QUEUE_BYTES_MAX} bytes")
        return name

    @field_validator("queue_source")
    @classmethod
    def _check_source(cls, name: str) -> str:
        if problem := source_problem(name):
            raise ValueError(problem)
        return name
