"""A unit test opens no socket: one that tries fails at once."""

import socket
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """Undo what a test that starts a program does to the logs: others look into them."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail whoever connects or listens; what it stands on belongs into tests/integration."""

    def refuse(*_: object) -> None:
        pytest.fail("a unit test opened a socket")

    for name in ("connect", "connect_ex", "bind"):
        monkeypatch.setattr(socket.socket, name, refuse)
