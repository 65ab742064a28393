"""Fixtures that several tiers share."""

from collections.abc import Iterator

import pytest

from support.servers import Servers, run_servers, server_kinds


@pytest.fixture(scope="session", params=server_kinds())
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Real PostgreSQL, RabbitMQ and Redis or Valkey, of every kind that this machine can run."""
    with run_servers(request.param, tmp_path_factory.mktemp(request.param)) as running:
        yield running
