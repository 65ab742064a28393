"""The five services and what runs once, as processes of a local stack: each with its own settings only."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etlpay_cli import probes
from etlpay_cli.layout import DATABASE, Layout
from etlpay_cli.local.program import Program
from etlpay_cli.ports import HOST
from etlpay_cli.provision import INGEST_VHOST, PRODUCERS_PLACE
from etlpay_cli.settings import inherited_environment
from shared.contracts.roles import OWNER_ROLE, PIPELINES_ROLE, PROCESSOR_ROLE, READER_ROLE

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMES = ("processor", "api-gateway", "grpc-ingest", "file-watcher", "queue-consumer")
DEMO_QUEUE_SOURCE = "queue-worker-demo"
# Settings that the stack decides. All others in the environment (log level, limits) reach the services.
_DECIDED_HERE = (
    "ETLPAY_ROOT",
    "ETLPAY_AMQP_PASSWORD",
    "ETLPAY_AMQP_URL",
    "ETLPAY_CACHE_KEY",
    "ETLPAY_POSTGRES_PASSWORD",
    "ETLPAY_POSTGRES_PORT",
    "ETLPAY_POSTGRES_URL",
    "ETLPAY_REDIS_PASSWORD",
    "ETLPAY_REDIS_PORT",
    "ETLPAY_REDIS_URL",
    "ETLPAY_HTTP_PORT",
    "ETLPAY_GRPC_PORT",
    "ETLPAY_AMQP_PORT",
    "ETLPAY_PRODUCERS_FILE",
    "ETLPAY_PROCESSING_HOST",
    "ETLPAY_PROCESSING_PORT",
    "ETLPAY_PROCESSOR_PASSWORD",
    "ETLPAY_PROCESSOR_TARGET",
    "ETLPAY_PROCESSOR_TOKEN",
    "ETLPAY_READER_PASSWORD",
    "ETLPAY_API_GATEWAY_TOKEN",
    "ETLPAY_GRPC_INGEST_TOKEN",
    "ETLPAY_OPERATOR_TOKEN",
    "ETLPAY_OPS_",
    "ETLPAY_FILES_ROOT",
    "ETLPAY_MASK_KEY",
    *(f"ETLPAY_PIPELINES_{decided}" for decided in ("FOLDER", "PASSWORD", "PLANS_FOLDER")),
    "ETLPAY_API_KEY",
    "ETLPAY_DEMO_KEY",
    # The local stack listens on this machine only, and has no TLS.
    "ETLPAY_TLS_",
    *(f"ETLPAY_{peer}_{file}" for peer in ("AMQP", "POSTGRES", "REDIS", "PROCESSOR") for file in ("CA", "CERT", "KEY")),
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
    """Return the migration of the schema and the roles."""
    own = {
        "ETLPAY_POSTGRES_URL": _postgres_url(OWNER_ROLE, ports),
        "ETLPAY_POSTGRES_PASSWORD_FILE": str(layout.secret("migrate/owner_password")),
        "ETLPAY_PROCESSOR_PASSWORD_FILE": str(layout.secret("migrate/processor_password")),
        "ETLPAY_READER_PASSWORD_FILE": str(layout.secret("migrate/reader_password")),
        "ETLPAY_PIPELINES_PASSWORD_FILE": str(layout.secret("migrate/pipelines_password")),
    }
    return Task("migrate", (sys.executable, "-m", "processor.migrate"), _environment(own))


def pipelines(layout: Layout, ports: Mapping[str, int], *arguments: str) -> Task:
    """Return the one-shot that plans and applies pipeline files, with the arguments of its command line."""
    own = {
        **_database("pipelines", PIPELINES_ROLE, layout, ports),
        "ETLPAY_MASK_KEY_FILE": str(layout.secret("pipelines/mask_key")),
        "ETLPAY_PIPELINES_FOLDER": str(layout.pipelines),
        "ETLPAY_PIPELINES_PLANS_FOLDER": str(layout.plans),
    }
    return Task("pipelines", (sys.executable, "-m", "processor.pipelines", *arguments), _environment(own))


def processor(layout: Layout, ports: Mapping[str, int]) -> Program:
    """Return the processor."""
    own = {"ETLPAY_PROCESSING_HOST": HOST, "ETLPAY_PROCESSING_PORT": str(ports["processing"])} | {
        f"ETLPAY_{caller}_TOKEN_FILE": str(layout.secret(f"processor/{caller.lower()}_token"))
        for caller in ("API_GATEWAY", "GRPC_INGEST", "OPERATOR")
    }
    own["ETLPAY_MASK_KEY_FILE"] = str(layout.secret("processor/mask_key"))
    database = _database("processor", PROCESSOR_ROLE, layout, ports)
    return _service("processor", {**own, **database, **_cache("processor", layout, ports)}, layout, ports)


def edge_services(layout: Layout, ports: Mapping[str, int]) -> tuple[Program, ...]:
    """Return the edge services, one for each channel."""
    http = {"ETLPAY_HTTP_HOST": HOST, "ETLPAY_HTTP_PORT": str(ports["http"])}
    grpc = {"ETLPAY_GRPC_HOST": HOST, "ETLPAY_GRPC_PORT": str(ports["grpc"])}
    reads = _database("api-gateway", READER_ROLE, layout, ports) | _cache("api-gateway", layout, ports)
    queue = {
        "ETLPAY_QUEUE_SOURCE": DEMO_QUEUE_SOURCE,
        "ETLPAY_PRODUCERS_FILE": str(layout.secret(PRODUCERS_PLACE)),
    }
    return (
        _service("api-gateway", {**http, **_processor_client("api-gateway", layout, ports), **reads}, layout, ports),
        _service("grpc-ingest", {**grpc, **_processor_client("grpc-ingest", layout, ports)}, layout, ports),
        _service("file-watcher", {"ETLPAY_FILES_ROOT": str(layout.files)}, layout, ports),
        _service("queue-consumer", queue, layout, ports),
    )


def ready_port(name: str, ports: Mapping[str, int]) -> int:
    """Return the port on which a service answers /readyz."""
    return ports["http"] if name == "api-gateway" else ports[f"{name}-ops"]


def _service(name: str, own: Mapping[str, str], layout: Layout, ports: Mapping[str, int]) -> Program:
    ops = {"ETLPAY_OPS_HOST": HOST, "ETLPAY_OPS_PORT": str(ports[f"{name}-ops"])}
    broker = {
        "ETLPAY_AMQP_URL": f"amqp://{name}@{HOST}:{ports['amqp']}/{INGEST_VHOST}",
        "ETLPAY_AMQP_PASSWORD_FILE": str(layout.secret(f"{name}/amqp_password")),
    }
    return Program(
        name=name,
        command=(sys.executable, "-m", name.replace("-", "_")),
        environment=_environment({**own, **ops, **broker}),
        folder=layout.run,
        ready=functools.partial(probes.http_ready, ready_port(name, ports)),
    )


def _processor_client(service: str, layout: Layout, ports: Mapping[str, int]) -> dict[str, str]:
    return {
        "ETLPAY_PROCESSOR_TARGET": f"{HOST}:{ports['processing']}",
        "ETLPAY_PROCESSOR_TOKEN_FILE": str(layout.secret(f"{service}/processor_token")),
    }


def _cache(service: str, layout: Layout, ports: Mapping[str, int]) -> dict[str, str]:
    return {
        "ETLPAY_REDIS_URL": f"redis://{HOST}:{ports['redis']}/0",
        "ETLPAY_REDIS_PASSWORD_FILE": str(layout.secret(f"{service}/redis_password")),
        "ETLPAY_CACHE_KEY_FILE": str(layout.secret(f"{service}/cache_key")),
    }


def _database(service: str, role: str, layout: Layout, ports: Mapping[str, int]) -> dict[str, str]:
    return {
        "ETLPAY_POSTGRES_URL": _postgres_url(role, ports),
        "ETLPAY_POSTGRES_PASSWORD_FILE": str(layout.secret(f"{service}/postgres_password")),
    }


def _postgres_url(role: str, ports: Mapping[str, int]) -> str:
    return f"postgresql://{role}@{HOST}:{ports['postgres']}/{DATABASE}"


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    return inherited_environment(without=_DECIDED_HERE) | _PROCESS | dict(own)
