"""A service gives the processor its own receipts, and nobody else's."""

import uuid
from collections.abc import AsyncIterator

import pytest

from processor.inputs.callers import Caller, Callers
from shared.contracts.errors import RetryableError
from shared.contracts.event import Channel
from shared.contracts.receipt import Count, Receipt
from shared.wire import encode_receipt
from support.replica import Replica, calling
from support.servers import free_port

TOKEN = "the gateway's own"  # noqa: S105 - of a service that lives as long as its test


def receipt(service: str = "api-gateway", channel: Channel = Channel.HTTP) -> Receipt:
    counts = (Count("shop", channel, 1, (1, 0, 0, 0, 0, 0), 0),)
    return Receipt(service=service, instance=uuid.UUID(int=1), number=1, counts=counts)


@pytest.fixture
async def replica() -> AsyncIterator[Replica]:
    running = Replica(free_port(), Callers([(Caller("api-gateway", Channel.HTTP), TOKEN)]))
    await running.start()
    yield running
    await running.drain()


@pytest.mark.parametrize(
    ("token", "told"),
    [
        ("", receipt()),
        ("another", receipt()),
        (TOKEN, receipt(service="grpc-ingest")),
        (TOKEN, receipt(channel=Channel.GRPC)),
    ],
    ids=["no token", "a wrong token", "another service's", "of another channel"],
)
async def test_nobody_tells_what_another_has_counted(replica: Replica, token: str, told: Receipt) -> None:
    async with calling(replica, processor_token=token) as client:
        with pytest.raises(RetryableError):
            await client.report(encode_receipt(told))

    assert replica.kept == []


async def test_a_service_tells_what_it_has_counted_itself(replica: Replica) -> None:
    async with calling(replica, processor_token=TOKEN) as client:
        await client.report(encode_receipt(receipt()))

    assert replica.kept == [receipt()]
