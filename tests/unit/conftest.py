"""A unit test opens no socket: one that tries fails at once."""

import socket

import pytest


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail whoever connects or listens; what it stands on belongs into tests/integration."""

    def refuse(*_: object) -> None:
        pytest.fail("a unit test opened a socket")

    for name in ("connect", "connect_ex", "bind"):
        monkeypatch.setattr(socket.socket, name, refuse)
