"""What the containers may do: facts of the engine, not habits of the code."""

import subprocess
from typing import Any

import asyncpg
import msgspec
import pytest

from support.servers import docker_is_here
from support.stack import COMPOSE_PROJECT, Stack

SERVICES = ("api-gateway", "grpc-ingest", "file-watcher", "queue-consumer", "processor")
SERVERS = ("postgres", "redis", "rabbitmq")

# Collected only where there is an engine, as the docker half of every other end-to-end test is.
in_containers = pytest.mark.skipif(not docker_is_here(), reason="there is no Docker engine here")


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(("docker", *arguments), capture_output=True, text=True, check=False, timeout=60)


def inspect(service: str) -> dict[str, Any]:
    inspected = docker("inspect", f"{COMPOSE_PROJECT}-{service}-1")
    assert inspected.returncode == 0, inspected.stderr
    [container] = msgspec.json.decode(inspected.stdout)
    return dict(container)


@in_containers
@pytest.mark.usefixtures("docker_stack")
@pytest.mark.parametrize("service", [*SERVICES, *SERVERS])
def test_a_container_is_nobody_special(service: str) -> None:
    container = inspect(service)
    host = container["HostConfig"]

    status = docker("exec", f"{COMPOSE_PROJECT}-{service}-1", "cat", "/proc/1/status").stdout
    found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)

    assert container["Config"]["User"] not in {"", "root", "0", "0:0"}
    assert "0" not in found["Uid"].split()
    assert int(found["CapEff"], 16) == int(found["CapBnd"], 16) == 0
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    published = [each["HostIp"] for bindings in (host["PortBindings"] or {}).values() for each in bindings]
    assert set(published) <= {"127.0.0.1"}


@in_containers
@pytest.mark.usefixtures("docker_stack")
def test_the_gateways_image_holds_nothing_of_the_processor() -> None:
    script = "import importlib.util as u; print([n for n in ('alembic', 'processor', 'pip') if u.find_spec(n)])"

    found = docker("exec", f"{COMPOSE_PROJECT}-api-gateway-1", "python", "-c", script)

    assert found.stdout.strip() == "[]", found.stderr


@in_containers
@pytest.mark.usefixtures("docker_stack")
@pytest.mark.parametrize("service", ["grpc-ingest", "file-watcher", "queue-consumer"])
@pytest.mark.parametrize("server", ["postgres", "redis"])
def test_a_service_that_only_takes_events_in_cannot_find_the_database_or_the_cache(service: str, server: str) -> None:
    script = f"import socket; socket.getaddrinfo('{server}', 1)"

    found = docker("exec", f"{COMPOSE_PROJECT}-{service}-1", "python", "-c", script)

    assert found.returncode != 0
    assert "gaierror" in found.stderr


async def test_the_readers_address_cannot_write(stack: Stack) -> None:
    statements = ("INSERT INTO raw_events DEFAULT VALUES", "UPDATE raw_events SET type = ''", "DELETE FROM raw_events")

    for statement in statements:
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError)):
            await stack.fetch(statement)
