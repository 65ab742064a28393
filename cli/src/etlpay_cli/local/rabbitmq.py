"""The private RabbitMQ node of a local stack, run from the system's package.

The node has a name, ports, an epmd, a cookie and folders of its own, so that it does not disturb a node of
the system.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from etlpay_cli import probes
from etlpay_cli.local import packages
from etlpay_cli.local.program import Program
from etlpay_cli.ports import HOST
from etlpay_cli.provision import DEFINITIONS_PLACE
from etlpay_cli.settings import inherited_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from etlpay_cli.layout import Layout

# The programs themselves; the commands on the PATH are wrappers that switch to the system's user and node.
_SERVER: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_CONTROL: Final = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")
_NODE: Final = "etlpay@localhost"
_CONTROL_SECONDS_MAX: Final = 60


def is_installed() -> bool:
    """Tell whether the server and its runtime are there."""
    return _SERVER.exists() and shutil.which("erl") is not None and shutil.which("epmd") is not None


def install() -> None:
    """Install the system's package without starting the node that it would bring. Raises NotInstalledError."""
    packages.install("rabbitmq-server")
    if not is_installed():
        raise packages.NotInstalledError("rabbitmq-server")


def prepare(layout: Layout, ports: Mapping[str, int]) -> None:
    """Write the node's configuration."""
    home = layout.rabbitmq / "home"
    home.mkdir(mode=0o700, exist_ok=True)
    (layout.rabbitmq / "enabled_plugins").write_text("[].\n")
    (layout.rabbitmq / "env.conf").write_text("")
    settings = {
        "listeners.tcp.local": f"{HOST}:{ports['amqp']}",
        "load_definitions": str(layout.secret(DEFINITIONS_PLACE)),
        "vm_memory_high_watermark.absolute": "1GB",
        "disk_free_limit.absolute": "200MB",
        # The default of RabbitMQ 4, but not of 3.10. A larger message could not be published again.
        "max_message_size": str(16 * 1024 * 1024),
        "log.console": "true",
        "log.console.level": "warning",
        "log.file": "false",
    }
    lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
    (layout.rabbitmq / "rabbitmq.conf").write_text(lines)


def epmd_program(layout: Layout, ports: Mapping[str, int]) -> Program:
    """Return Erlang's name server. As our child it ends with us; one that a node starts would stay."""
    return Program(
        name="epmd",
        command=(shutil.which("epmd") or "epmd", "-port", str(ports["epmd"]), "-address", HOST),
        environment=inherited_environment(without=("ETLPAY_", "RABBITMQ_", "ERL_")),
        folder=layout.rabbitmq,
        ready=functools.partial(probes.listens, ports["epmd"]),
    )


def program(layout: Layout, ports: Mapping[str, int]) -> Program:
    """Return the node."""
    folder = layout.rabbitmq
    own = {
        "HOME": str(folder / "home"),
        "RABBITMQ_NODENAME": _NODE,
        "RABBITMQ_DIST_PORT": str(ports["erlang"]),
        "ERL_EPMD_PORT": str(ports["epmd"]),
        "ERL_EPMD_ADDRESS": HOST,
        "RABBITMQ_CONF_ENV_FILE": str(folder / "env.conf"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_LOGS": "-",
        # An idle node sleeps instead of spinning, and its distribution port is not offered to the network.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
        ),
        # The script becomes the node instead of waiting for it: the signal that we send reaches the node itself.
        "RUNNING_UNDER_SYSTEMD": "true",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
    }
    return Program(
        name="rabbitmq",
        command=(str(_SERVER),),
        environment=inherited_environment(without=("ETLPAY_", "RABBITMQ_", "ERL_", "NOTIFY_SOCKET")) | own,
        folder=folder,
        ready=functools.partial(probes.rabbitmq_ready, ports["amqp"]),
        stop_insists=True,
    )


def control(layout: Layout, ports: Mapping[str, int], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the operator on the node, and return its result."""
    return subprocess.run(
        (str(_CONTROL), "-q", "-n", _NODE, *arguments),
        env=dict(program(layout, ports).environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_CONTROL_SECONDS_MAX,
    )
