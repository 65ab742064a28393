"""Sessions with RabbitMQ: one that ends at once is not begun again at once, however often it has."""

import asyncio

import pytest

from shared.messaging.session import Session, is_supported, pause_seconds_max, run_sessions
from shared.settings import AmqpSettings


async def test_a_broker_that_is_away_for_an_hour_is_still_asked_again() -> None:
    """The pause doubles; a number of attempts that no float could hold must not end the process."""
    assert pause_seconds_max(AmqpSettings(reconnect_seconds_max=5), attempt=100_000) == pytest.approx(5)


async def test_the_first_attempt_after_an_end_comes_at_once() -> None:
    assert pause_seconds_max(AmqpSettings(), attempt=0) <= 0.1


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
