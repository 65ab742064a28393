"""What a container reaches and holds is its own business only: networks, secrets, roles, modules, files."""

import subprocess
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import pytest

from support.servers import docker_is_here
from support.stack import COMPOSE_PROJECT, Stack

pytestmark = pytest.mark.skipif(not docker_is_here(), reason="there is no Docker engine on this machine")

SERVICES: Final = ("api-gateway", "grpc-ingest", "file-watcher", "queue-consumer", "processor")
CONTAINERS: Final = (*SERVICES, "postgres", "redis", "rabbitmq")
LOOK_UP: Final = "import socket, sys; socket.getaddrinfo(sys.argv[1], None)"
FIND: Final = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
CONNECT: Final = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"


@pytest.fixture(scope="module")
def containers(docker_stack: Stack) -> dict[str, dict[str, Any]]:
    """What the engine says of each container that runs, by its service."""
    assert docker_stack.mode == "docker"
    named = docker("ps", "--quiet", "--filter", f"label=com.docker.compose.project={COMPOSE_PROJECT}").stdout.split()
    inspected: list[dict[str, Any]] = msgspec.json.decode(docker("inspect", *named).stdout)
    return {each["Config"]["Labels"]["com.docker.compose.service"]: each for each in inspected}


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(("docker", *arguments), capture_output=True, text=True, check=True, timeout=60)


def succeeds(container: dict[str, Any], *command: str) -> bool:
    """Run a command in a container, and return whether it ended with success."""
    done = subprocess.run(("docker", "exec", container["Id"], *command), capture_output=True, check=False, timeout=60)
    assert done.returncode not in {125, 126, 127}, done.stderr
    return done.returncode == 0


def reads(container: dict[str, Any], *command: str) -> str:
    """Run a command in a container and return what it printed."""
    return docker("exec", container["Id"], *command).stdout


def test_every_container_is_among_those_that_are_checked(containers: dict[str, dict[str, Any]]) -> None:
    assert set(CONTAINERS) == set(containers)


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_cannot_write_into_its_image(containers: dict[str, dict[str, Any]], name: str) -> None:
    assert containers[name]["HostConfig"]["ReadonlyRootfs"] is True
    assert not succeeds(containers[name], "sh", "-c", ": > /written")
    assert succeeds(containers[name], "sh", "-c", ": > /tmp/written"), "the check itself cannot write anywhere"


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_is_bounded_in_memory(containers: dict[str, dict[str, Any]], name: str) -> None:
    assert containers[name]["HostConfig"]["Memory"] > 0


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_port_is_published_on_this_machine_only(containers: dict[str, dict[str, Any]], name: str) -> None:
    ports = containers[name]["NetworkSettings"]["Ports"]
    published = [binding["HostIp"] for bindings in ports.values() for binding in bindings or ()]

    assert set(published) <= {"127.0.0.1"}
    assert bool(published) == (name in {"api-gateway", "grpc-ingest", "postgres", "rabbitmq"})


@pytest.mark.parametrize("name", ["grpc-ingest", "file-watcher", "queue-consumer"])
@pytest.mark.parametrize(("server", "port"), [("postgres", "5432"), ("redis", "6379")])
def test_a_service_that_needs_no_database_reaches_none(
    containers: dict[str, dict[str, Any]], name: str, server: str, port: str
) -> None:
    """Neither by name nor by any of its addresses. The gateway does, so the check itself works."""
    addresses = addresses_of(containers[server])

    assert not succeeds(containers[name], "python", "-c", LOOK_UP, server)
    assert not any(succeeds(containers[name], "python", "-c", CONNECT, address, port) for address in addresses)
    assert succeeds(containers["api-gateway"], "python", "-c", CONNECT, server, port)


@pytest.mark.parametrize("name", ["file-watcher", "queue-consumer", "processor"])
def test_who_serves_nobody_outside_reaches_nothing_outside(containers: dict[str, dict[str, Any]], name: str) -> None:
    inspected: list[dict[str, Any]] = msgspec.json.decode(
        docker("network", "inspect", *containers[name]["NetworkSettings"]["Networks"]).stdout
    )

    assert [network["Name"] for network in inspected if not network["Internal"]] == []


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("api-gateway", ("processor", "alembic", "sqlalchemy")),
        ("grpc-ingest", ("processor", "alembic", "sqlalchemy", "asyncpg", "redis", "fastapi")),
        ("file-watcher", ("processor", "alembic", "sqlalchemy", "asyncpg", "redis", "fastapi")),
        ("queue-consumer", ("processor", "alembic", "sqlalchemy", "asyncpg", "redis", "fastapi")),
        ("processor", ("api_gateway", "fastapi", "pytest")),
    ],
)
def test_an_image_holds_its_own_service_and_what_that_needs(
    containers: dict[str, dict[str, Any]], name: str, modules: Sequence[str]
) -> None:
    found = [module for module in modules if succeeds(containers[name], "python", "-c", FIND, module)]

    assert found == []
    assert succeeds(containers[name], "python", "-c", FIND, name.replace("-", "_"))


@pytest.mark.parametrize(
    ("name", "secrets"),
    [
        (
            "api-gateway",
            {"amqp_password", "postgres_password", "processor_token", "redis_password", "cache_key"},
        ),
        ("grpc-ingest", {"amqp_password", "processor_token"}),
        ("file-watcher", {"amqp_password"}),
        ("queue-consumer", {"amqp_password", "producers.toml"}),
        (
            "processor",
            {
                *("amqp_password", "postgres_password", "redis_password", "cache_key", "mask_key"),
                *("api_gateway_token", "grpc_ingest_token", "operator_token"),
            },
        ),
        ("postgres", {"owner_password"}),
        ("redis", {"redis.conf", "redis_password"}),
        ("rabbitmq", {"definitions.json"}),
    ],
)
def test_a_container_is_given_its_own_secrets_as_files_that_it_cannot_change(
    containers: dict[str, dict[str, Any]], name: str, secrets: set[str]
) -> None:
    held = set(reads(containers[name], "ls", "/run/etlpay").split())

    assert held == secrets
    assert not succeeds(containers[name], "sh", "-c", ": > /run/etlpay/written")


@pytest.mark.parametrize("name", SERVICES)
def test_only_who_uses_the_ledger_has_a_role_there_and_no_variable_holds_a_password(
    containers: dict[str, dict[str, Any]], name: str
) -> None:
    environment = dict(each.split("=", 1) for each in containers[name]["Config"]["Env"])
    roles = {"api-gateway": "etlpay_reader", "processor": "etlpay_processor"}

    url = environment.get("ETLPAY_POSTGRES_URL", "")
    assert url.startswith(f"postgresql://{roles[name]}@") if name in roles else not url
    assert [each for each in environment if each.endswith(("_PASSWORD", "_TOKEN", "_CACHE_KEY"))] == []


def addresses_of(container: dict[str, Any]) -> list[str]:
    """Return every address of a container."""
    networks = container["NetworkSettings"]["Networks"].values()
    return [network["IPAddress"] for network in networks if network["IPAddress"]]
