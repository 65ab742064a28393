"""Where a running stack is reached: for people (`etlpay status`) and for programs (`--json`, stack.env)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import msgspec

from etlpay_cli.layout import DATABASE, Layout
from etlpay_cli.ports import HOST
from etlpay_cli.provision import INGEST_VHOST, PRODUCERS_PLACE
from etlpay_cli.state import Mode, write_private
from shared.contracts.roles import READER_ROLE

if TYPE_CHECKING:
    from collections.abc import Mapping


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """The secrets of a producer, a reader and the operator. A stack of an earlier version lacks some."""

    producer_password: str
    reader_password: str
    operator_password: str
    redis_password: str = ""
    processor_token: str = ""
    cache_key: str = ""

    @classmethod
    def of_folder(cls, secrets: Mapping[str, str]) -> Self:
        """Return the secrets of the operator's folder, given by the names of its files."""
        names = {name: name for name in cls.__struct_fields__} | {"operator_password": "amqp_password"}
        return cls(**{name: secrets[file] for name, file in names.items() if file in secrets})


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Where the stack is reached. `amqp` is a producer's address, `postgres` the reader's; they hold passwords.

    `redis` holds one too, and is empty where the cache is not reached from this machine.
    """

    mode: Mode
    http: str
    grpc: str
    amqp: str
    postgres: str
    redis: str
    inbox: str


def addresses(mode: Mode, layout: Layout, ports: Mapping[str, int], credentials: Credentials) -> Addresses:
    """Return the addresses of a stack."""
    reader = f"{READER_ROLE}:{credentials.reader_password}"
    cache = f":{credentials.redis_password}@" if credentials.redis_password else ""
    return Addresses(
        mode=mode,
        http=f"http://{HOST}:{ports['http']}",
        grpc=f"{HOST}:{ports['grpc']}",
        amqp=f"amqp://producer:{credentials.producer_password}@{HOST}:{ports['amqp']}/",
        postgres=f"postgresql://{reader}@{HOST}:{ports['postgres']}/{DATABASE}",
        redis=f"redis://{cache}{HOST}:{ports['redis']}/0" if "redis" in ports else "",
        inbox=str(layout.inbox),
    )


def read_credentials(layout: Layout) -> Credentials:
    """Return the generated secrets of a local stack."""
    return Credentials.of_folder(
        {path.name: path.read_text().strip() for path in (layout.secrets / "operator").iterdir() if not path.suffix}
    )


def write_stack_env(layout: Layout, ports: Mapping[str, int], credentials: Credentials) -> None:
    """Write the settings with which a service that is started by hand in the checkout finds the stack."""
    settings = {
        "ETLPAY_AMQP_URL": f"amqp://operator@{HOST}:{ports['amqp']}/{INGEST_VHOST}",
        "ETLPAY_AMQP_PASSWORD": credentials.operator_password,
        "ETLPAY_POSTGRES_URL": f"postgresql://{READER_ROLE}@{HOST}:{ports['postgres']}/{DATABASE}",
        "ETLPAY_POSTGRES_PASSWORD": credentials.reader_password,
        "ETLPAY_OPS_PORT": "0",
    }
    if "redis" in ports:
        settings["ETLPAY_REDIS_URL"] = f"redis://{HOST}:{ports['redis']}/0"
        settings["ETLPAY_REDIS_PASSWORD"] = credentials.redis_password
        settings["ETLPAY_CACHE_KEY"] = credentials.cache_key
    producers = layout.secret(PRODUCERS_PLACE)
    if producers.exists():
        # Else a consumer that is started by hand would take what its senders may not send.
        settings["ETLPAY_PRODUCERS_FILE"] = str(producers)
    if "processing" in ports:
        settings["ETLPAY_PROCESSOR_TARGET"] = f"{HOST}:{ports['processing']}"
        settings["ETLPAY_PROCESSOR_TOKEN"] = credentials.processor_token
    lines = [
        "# Written by `make up`. It holds passwords.",
        *(f"{name}={value}" for name, value in settings.items()),
        "",
    ]
    write_private(layout.stack_env, "\n".join(lines).encode())
