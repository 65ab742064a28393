"""Fixtures that several tiers share."""

import uuid
from collections.abc import Iterator

import pytest
from hypothesis import settings

from support.servers import Servers, docker_is_here, run_servers, server_kinds
from support.stack import Stack, run_stack

pytest_plugins = ("support.ledger", "support.one_shot")

# The same examples in each run, however slow the machine is; `--hypothesis-profile=search` looks for others.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1_000)
settings.load_profile("same")


@pytest.fixture(scope="session", params=server_kinds())
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Real PostgreSQL, RabbitMQ and Redis or Valkey, of every kind that this machine can run."""
    with run_servers(request.param, tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture(scope="session")
def local_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole system as processes of this machine, ready."""
    # An audit waits for several receipts of each service.
    # An audit needs receipts, and an empty file its time, which by default is as long as the tests wait for files.
    settings = {"ETLPAY_RECEIPT_SECONDS": "1", "ETLPAY_FILES_EMPTY_SECONDS": "2"}
    with run_stack("local", tmp_path_factory.mktemp("local-stack"), **settings) as running:
        yield running


@pytest.fixture(scope="session")
def docker_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole system as containers, ready."""
    with run_stack("docker", tmp_path_factory.mktemp("docker-stack")) as running:
        yield running


@pytest.fixture(scope="session", params=["local", "docker"] if docker_is_here() else ["local"])
def stack(request: pytest.FixtureRequest) -> Stack:
    """The whole system, once in each mode that this machine can run."""
    running: Stack = request.getfixturevalue(f"{request.param}_stack")
    return running


@pytest.fixture
def source(request: pytest.FixtureRequest) -> str:
    """A source that nobody else has used."""
    return f"{request.node.originalname.removeprefix('test_')[:60].replace('_', '-')}-{uuid.uuid4().hex[:8]}"
