"""The five services and the migration as processes of a local stack: what each is told, and nothing more."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etlpay_cli import probes
from etlpay_cli.layout import DATABASE, OWNER_ROLE, PROCESSOR_ROLE, READER_ROLE, Layout
from etlpay_cli.local.program import Program
from etlpay_cli.ports import HOST
from etlpay_cli.provision import LANES_VHOST
from etlpay_cli.settings import inherited_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMES = ("processor", "api-gateway", "grpc-ingest", "file-watcher", "queue-consumer")
DEMO_QUEUE_SOURCE = "queue-worker-demo"
# What the stack decides for its services. Anything else that is set for them (log level, limits) reaches them.
_DECIDED_HERE = (
    "ETLPAY_ROOT",
    "ETLPAY_AMQP_PASSWORD",
    "ETLPAY_AMQP_URL",
    "ETLPAY_POSTGRES_PASSWORD",
    "ETLPAY_POSTGRES_PORT",
    "ETLPAY_POSTGRES_URL",
    "ETLPAY_REDIS_PORT",
    "ETLPAY_REDIS_URL",
    "ETLPAY_HTTP_PORT",
    "ETLPAY_GRPC_PORT",
    "ETLPAY_AMQP_PORT",
    "ETLPAY_PROCESSING_HOST",
    "ETLPAY_PROCESSING_PORT",
    "ETLPAY_PROCESSOR_PASSWORD",
    "ETLPAY_PROCESSOR_TARGET",
    "ETLPAY_READER_PASSWORD",
    "ETLPAY_OPS_",
    "ETLPAY_FILES_ROOT",
    "ETLPAY_API_KEY",
    "ETLPAY_DEMO_KEY",
    # It listens on this machine only, and `etlpay` speaks to it in the clear.
    "ETLPAY_TLS_",
    "PG",
)

# As in the Dockerfile, which says why.
_PROCESS = {
    "PYTHONUNBUFFERED": "1",
    # The C library of gRPC would write what a peer says into the log, line feeds and all.
    "GRPC_VERBOSITY": "NONE",
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "720896",
    "MALLOC_TRIM_THRESHOLD_": "1048576",
}


@dataclass(frozen=True, slots=True)
class Task:
    """A program that ends by itself and must succeed."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]


def migration(layout: Layout, ports: Mapping[str, int]) -> Task:
    """Return how the schema and the roles are brought up to date."""
    own = {
        "ETLPAY_POSTGRES_URL": _postgres_url(OWNER_ROLE, ports),
        "ETLPAY_POSTGRES_PASSWORD_FILE": str(layout.secret("migrate/owner_password")),
        "ETLPAY_PROCESSOR_PASSWORD_FILE": str(layout.secret("migrate/processor_password")),
        "ETLPAY_READER_PASSWORD_FILE": str(layout.secret("migrate/reader_password")),
    }
    return Task("migrate", (sys.executable, "-m", "processor.migrate"), _environment(own))


def processor(layout: Layout, ports: Mapping[str, int]) -> Program:
    """Return how the processor is run."""
    own = {"ETLPAY_PROCESSING_HOST": HOST, "ETLPAY_PROCESSING_PORT": str(ports["processing"])}
    database = _database("processor", PROCESSOR_ROLE, layout, ports)
    return _service("processor", {**own, **database, **_cache(ports)}, layout, ports)


def doors(layout: Layout, ports: Mapping[str, int]) -> tuple[Program, ...]:
    """Return how the services that take events in are run, one for each channel."""
    submission = {"ETLPAY_PROCESSOR_TARGET": f"{HOST}:{ports['processing']}"}
    http = {"ETLPAY_HTTP_HOST": HOST, "ETLPAY_HTTP_PORT": str(ports["http"])}
    grpc = {"ETLPAY_GRPC_HOST": HOST, "ETLPAY_GRPC_PORT": str(ports["grpc"])}
    database = _database("api-gateway", READER_ROLE, layout, ports)
    return (
        _service("api-gateway", {**http, **submission, **database, **_cache(ports)}, layout, ports),
        _service("grpc-ingest", {**grpc, **submission}, layout, ports),
        _service("file-watcher", {"ETLPAY_FILES_ROOT": str(layout.files)}, layout, ports),
        _service("queue-consumer", {"ETLPAY_QUEUE_SOURCE": DEMO_QUEUE_SOURCE}, layout, ports),
    )


def ready_port(name: str, ports: Mapping[str, int]) -> int:
    """Return the port on which a service answers /readyz."""
    return ports["http"] if name == "api-gateway" else ports[f"{name}-ops"]


def _service(name: str, own: Mapping[str, str], layout: Layout, ports: Mapping[str, int]) -> Program:
    ops = {"ETLPAY_OPS_HOST": HOST, "ETLPAY_OPS_PORT": str(ports[f"{name}-ops"])}
    broker = {
        "ETLPAY_AMQP_URL": f"amqp://{name}@{HOST}:{ports['amqp']}/{LANES_VHOST}",
        "ETLPAY_AMQP_PASSWORD_FILE": str(layout.secret(f"{name}/amqp_password")),
    }
    return Program(
        name=name,
        command=(sys.executable, "-m", name.replace("-", "_")),
        environment=_environment({**own, **ops, **broker}),
        folder=layout.run,
        ready=functools.partial(probes.http_ready, ready_port(name, ports)),
    )


def _cache(ports: Mapping[str, int]) -> dict[str, str]:
    return {"ETLPAY_REDIS_URL": f"redis://{HOST}:{ports['redis']}/0"}


def _database(service: str, role: str, layout: Layout, ports: Mapping[str, int]) -> dict[str, str]:
    return {
        "ETLPAY_POSTGRES_URL": _postgres_url(role, ports),
        "ETLPAY_POSTGRES_PASSWORD_FILE": str(layout.secret(f"{service}/postgres_password")),
    }


def _postgres_url(role: str, ports: Mapping[str, int]) -> str:
    return f"postgresql://{role}@{HOST}:{ports['postgres']}/{DATABASE}"


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    return inherited_environment(without=_DECIDED_HERE) | _PROCESS | dict(own)
