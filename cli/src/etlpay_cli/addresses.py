"""Where a running stack is reached: for people (`etlpay status`) and for programs (`--json`, stack.env)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from etlpay_cli.layout import DATABASE, READER_ROLE, Layout
from etlpay_cli.ports import HOST
from etlpay_cli.provision import LANES_VHOST, PRODUCERS_PLACE
from etlpay_cli.state import Mode, write_private

if TYPE_CHECKING:
    from collections.abc import Mapping


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """The passwords of those outside the services: a producer, a reader, the operator."""

    producer_password: str
    reader_password: str
    operator_password: str


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """The doors of the stack. `amqp` is a foreign producer's, `postgres` the reader's; both hold a password."""

    mode: Mode
    http: str
    grpc: str
    amqp: str
    postgres: str
    redis: str
    inbox: str


def addresses(mode: Mode, layout: Layout, ports: Mapping[str, int], credentials: Credentials) -> Addresses:
    """Return the doors of a stack."""
    reader = f"{READER_ROLE}:{credentials.reader_password}"
    return Addresses(
        mode=mode,
        http=f"http://{HOST}:{ports['http']}",
        grpc=f"{HOST}:{ports['grpc']}",
        amqp=f"amqp://producer:{credentials.producer_password}@{HOST}:{ports['amqp']}/",
        postgres=f"postgresql://{reader}@{HOST}:{ports['postgres']}/{DATABASE}",
        redis=f"redis://{HOST}:{ports['redis']}/0",
        inbox=str(layout.inbox),
    )


def read_credentials(layout: Layout) -> Credentials:
    """Return the generated passwords of a local stack."""
    return Credentials(
        producer_password=layout.read_secret("operator/producer_password"),
        reader_password=layout.read_secret("operator/reader_password"),
        operator_password=layout.read_secret("operator/amqp_password"),
    )


def write_stack_env(layout: Layout, ports: Mapping[str, int], credentials: Credentials) -> None:
    """Write the settings with which a service that is started by hand in the checkout finds the stack."""
    settings = {
        "ETLPAY_AMQP_URL": f"amqp://operator@{HOST}:{ports['amqp']}/{LANES_VHOST}",
        "ETLPAY_AMQP_PASSWORD": credentials.operator_password,
        "ETLPAY_POSTGRES_URL": f"postgresql://{READER_ROLE}@{HOST}:{ports['postgres']}/{DATABASE}",
        "ETLPAY_POSTGRES_PASSWORD": credentials.reader_password,
        "ETLPAY_REDIS_URL": f"redis://{HOST}:{ports['redis']}/0",
        "ETLPAY_OPS_PORT": "0",
    }
    producers = layout.secret(PRODUCERS_PLACE)
    if producers.exists():
        # Else a consumer that is started by hand would take what its senders may not send.
        settings["ETLPAY_PRODUCERS_FILE"] = str(producers)
    if "processing" in ports:
        settings["ETLPAY_PROCESSOR_TARGET"] = f"{HOST}:{ports['processing']}"
    lines = [
        "# Written by `make up`. It holds passwords.",
        *(f"{name}={value}" for name, value in settings.items()),
        "",
    ]
    write_private(layout.stack_env, "\n".join(lines).encode())
