"""The state of a stack on disk: mode, phase, ports and processes, and the lock against a second stack."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, Final, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Mode = Literal["local", "docker"]
LOCAL: Final[Mode] = "local"
DOCKER: Final[Mode] = "docker"
Phase = Literal["starting", "ready", "stopping", "stopped", "failed"]


class Process(msgspec.Struct, kw_only=True):
    """A program of the stack. The moment of creation tells a process from a later one with the same number."""

    pid: int | None = None
    created: float | None = None
    restarts: int = 0
    state: Literal["waiting", "starting", "ready", "stopped"] = "waiting"


class Applied(msgspec.Struct, frozen=True):
    """What became of the pipeline files at the start: what the one-shot printed."""

    succeeded: bool
    text: str


class State(msgspec.Struct, kw_only=True):
    """The state as the supervisor last wrote it."""

    mode: Mode
    phase: Phase = "starting"
    servers_only: bool = False
    ports: dict[str, int] = {}
    supervisor: Process | None = None
    programs: dict[str, Process] = {}
    failed: str | None = None
    reason: str | None = None
    pipelines: Applied | None = None


class AlreadyUpError(Exception):
    """Another supervisor holds the lock of this checkout."""


def read_state(path: Path) -> State | None:
    """Return the state, or None where there is none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write_state(path: Path, state: State) -> None:
    """Replace the state, whole or not at all."""
    write_private(path, msgspec.json.format(msgspec.json.encode(state), indent=2))


def write_private(path: Path, content: bytes, *, like: os.stat_result | None = None) -> None:
    """Replace a file that only this user may read, whole or not at all; with the mode and owner of `like` instead."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        if like is not None:
            os.fchmod(file.fileno(), like.st_mode & 0o777)
            if os.geteuid() == 0:
                os.fchown(file.fileno(), like.st_uid, like.st_gid)
    temporary.replace(path)


@contextlib.contextmanager
def hold(lock: Path) -> Iterator[None]:
    """Hold the stack's lock. Raises AlreadyUpError at once when another process has it.

    The kernel lets go of it when the process ends, however it ends.
    """
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyUpError from None
        yield
