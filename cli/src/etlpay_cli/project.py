"""The compose project of a checkout: its name, and the ports that it published. Each checkout has one of its own."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from etlpay_cli.layout import Layout
from etlpay_cli.state import write_private

# The default of compose.yaml, which all checkouts of earlier versions shared.
SHARED_NAME: Final = "etlpay"
_DIGITS: Final = 8
_PROJECT_LABEL: Final = "com.docker.compose.project"
_FOLDER_LABEL: Final = "com.docker.compose.project.working_dir"

# Runs `docker` with these arguments and returns what it printed; nothing where it failed.
AskDocker: TypeAlias = Callable[..., str]


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """The containers of a checkout, as it remembers them."""

    name: str
    ports: dict[str, int] = {}


def remembered(layout: Layout) -> Project | None:
    """Return the project as it was last written, or None."""
    try:
        return msgspec.json.decode(layout.project.read_bytes(), type=Project)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def remember(layout: Layout, project: Project) -> None:
    """Write the project, whole or not at all."""
    write_private(layout.project, msgspec.json.format(msgspec.json.encode(project), indent=2))


def choose_name(layout: Layout, given: str, ask: AskDocker) -> str:
    """Return the name of this checkout's project.

    The first of: the given one, that of containers which were started from this folder, the remembered one, the shared
    one of earlier versions where this checkout has its volumes, and one that is made from the checkout's path.
    """
    if given:
        return given
    if started := _names(ask("ps", "--all", *_labelled(_FOLDER_LABEL, str(layout.root)), *_showing(_PROJECT_LABEL))):
        return min(started)
    if known := remembered(layout):
        return known.name
    if _has_shared_volumes(layout, ask):
        return SHARED_NAME
    return f"{SHARED_NAME}-{hashlib.sha256(str(layout.root).encode()).hexdigest()[:_DIGITS]}"


def ask_docker(*arguments: str) -> str:
    """Return the output of `docker`; nothing where it is missing or fails."""
    try:
        done = subprocess.run(("docker", *arguments), capture_output=True, text=True, check=False, timeout=10)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def has_volume(name: str, volume: str, ask: AskDocker) -> bool:
    """Tell whether a volume of the project exists."""
    labels = (*_labelled(_PROJECT_LABEL, name), *_labelled("com.docker.compose.volume", volume))
    return bool(ask("volume", "ls", "--quiet", *labels).strip())


def _has_shared_volumes(layout: Layout, ask: AskDocker) -> bool:
    """Tell whether this checkout has run containers under the shared name, and no other one does now.

    It has left the folder of its state and, unlike a local stack, no state in it. A fresh clone has neither.
    """
    ran_containers = layout.state_folder.exists() and not layout.state.exists()
    if not ran_containers or not has_volume(SHARED_NAME, "postgres", ask):
        return False
    folders = _names(ask("ps", "--all", *_labelled(_PROJECT_LABEL, SHARED_NAME), *_showing(_FOLDER_LABEL)))
    return not folders - {str(layout.root)}


def _labelled(label: str, value: str) -> tuple[str, str]:
    return "--filter", f"label={label}={value}"


def _showing(label: str) -> tuple[str, str]:
    return "--format", f'{{{{.Label "{label}"}}}}'


def _names(printed: str) -> set[str]:
    return {line.strip() for line in printed.splitlines() if line.strip()}
