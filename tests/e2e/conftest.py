"""The running system, once in each mode that this machine can run."""

import uuid
from collections.abc import Iterator

import pytest

from support.servers import docker_is_here
from support.stack import Stack, run_stack


@pytest.fixture(scope="session", params=["local", "docker"] if docker_is_here() else ["local"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole system, ready."""
    with run_stack(request.param, tmp_path_factory.mktemp(f"{request.param}-stack")) as running:
        yield running


@pytest.fixture
def source(request: pytest.FixtureRequest) -> str:
    """A source that nobody else has used."""
    return f"{request.node.originalname.removeprefix('test_')[:60].replace('_', '-')}-{uuid.uuid4().hex[:8]}"
