"""Sessions with RabbitMQ: none is begun while closing, and none with a broker that is too old."""

import asyncio

import pytest

from shared.messaging.session import Session, is_supported, run_sessions
from shared.settings import AmqpSettings


async def test_nothing_is_begun_while_closing() -> None:
    closing = asyncio.Event()
    closing.set()

    async def use(_: Session) -> None:
        raise AssertionError("no session was asked for")

    await run_sessions(AmqpSettings(), name="test", use=use, closing=closing)


@pytest.mark.parametrize(
    ("version", "supported"),
    [("3.9.29", False), ("3.10.0", True), ("3.13.0-rc.2", True), ("4.0.1", True), ("10.0", True), ("None", False)],
)
def test_a_broker_that_is_too_old_is_refused(version: str, *, supported: bool) -> None:
    assert is_supported(version) is supported
