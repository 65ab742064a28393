"""The stack in containers: `docker compose` with what a host has to prepare for it."""

from __future__ import annotations

import asyncio
import os
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING, Any, Final

import msgspec

from etlpay_cli import project, state
from etlpay_cli.addresses import Addresses, Credentials, addresses, write_stack_env
from etlpay_cli.errors import StackError
from etlpay_cli.local.postgres import psql_arguments
from etlpay_cli.ports import PortTakenError, choose_ports, listen
from etlpay_cli.settings import demanded_ports, inherited_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from etlpay_cli.layout import Layout
    from etlpay_cli.settings import CliSettings

_DEFAULT_PORTS: Final = {"http": 8000, "grpc": 50051, "amqp": 5672, "postgres": 5432, "redis": 6379}
_POSTGRES_PORT_INSIDE: Final = 5432
_POSTGRES_SOCKET_INSIDE: Final = "/var/run/postgresql"
_ONE_SHOTS: Final = frozenset({"provision", "migrate", "pipelines"})
_PIPELINES: Final = ("run", "--rm", "--no-deps", "--no-TTY")
# Where files outside of the folder that the container has are shown to it.
_GIVEN: Final = "/given"
# The one-shot container that has every volume of secrets.
_IN_SECRETS: Final = ("run", "--rm", "--no-deps", "--no-TTY")
_SERVICE_UID: Final = 10001
_PROBE_SECONDS_MAX: Final = 10.0
_WAIT_SECONDS_MAX: Final = "180"
# A default access list that also lets the watcher's user in, and hands that on to every new folder: see acl(5).
_ACL: Final = "system.posix_acl_default"
_ACL_VERSION: Final = 2
_ACL_NO_ID: Final = 0xFFFFFFFF
_ACL_USER_OBJ, _ACL_USER, _ACL_GROUP_OBJ, _ACL_MASK, _ACL_OTHER = 0x01, 0x02, 0x04, 0x10, 0x20


class DockerStack:
    """The stack of one checkout in containers."""

    mode: Final = state.DOCKER

    def __init__(self, layout: Layout, settings: CliSettings) -> None:
        """Look at the stack; nothing is started."""
        self._layout = layout
        self._demanded = demanded_ports(settings)
        self._applied: state.Applied | None = None
        known = project.remembered(layout)
        self._name = project.choose_name(layout, settings.project, project.ask_docker)
        self._ports = _DEFAULT_PORTS | (known.ports if known and known.name == self._name else {})
        self._ports |= {name: port for name, port in self._demanded.items() if port}

    def is_up(self) -> bool:
        """Tell whether any container of the stack runs. Where there is no engine, none does."""
        return docker_works(self._layout) and bool(self._containers())

    def addresses(self) -> Addresses:
        """Return the addresses of the stack."""
        return addresses(self.mode, self._layout, self._published_ports(), self._credentials())

    def details(self) -> dict[str, str]:
        """Return the status of each container."""
        return {each["Service"]: each["Status"] for each in self._containers()}

    def count_events(self) -> int | None:
        """Return how many events the ledger holds; 0 where there is no ledger, None where it cannot be counted now."""
        if not project.has_volume(self._name, "postgres", project.ask_docker):
            return 0
        try:
            counted = self._compose(
                *("exec", "--no-TTY", "--env", "PGPASSWORD", "postgres", "psql"),
                # Over the socket: over TCP a stack that speaks TLS wants a certificate.
                *psql_arguments(_POSTGRES_PORT_INSIDE, _POSTGRES_SOCKET_INSIDE),
                PGPASSWORD=self._credentials().reader_password,
            )
        except StackError:
            return None
        return int(counted)

    async def up(self, *, servers_only: bool, progress: Callable[[str], None]) -> None:
        """Build, start, and wait until every container is healthy."""
        if servers_only:
            raise StackError("the servers alone run only in local mode")
        if not docker_works(self._layout):
            raise StackError("there is no Docker engine with compose here; start it, or use: make up MODE=local")
        self._choose_ports()
        self._layout.make_folders()
        project.remember(self._layout, project.Project(name=self._name, ports=self._ports))
        prepare_files(self._layout)
        progress("docker compose up --build --wait")
        await asyncio.to_thread(self._compose_loud, "up", "--build", "--wait", "--wait-timeout", _WAIT_SECONDS_MAX)
        write_stack_env(self._layout, self._published_ports(), self._credentials())
        if self._layout.has_pipelines:
            progress("applying the pipeline files")
            self._applied = await asyncio.to_thread(self._apply_pipelines)

    def applied_pipelines(self) -> state.Applied | None:
        """Return what became of the pipeline files at the start; None: there were none."""
        return self._applied

    def run_pipelines(self, *arguments: str, path: Path | None = None) -> int:
        """Run the one-shot of the pipelines, which prints, and return its exit code."""
        done = subprocess.run(
            _compose_command(*_pipelines_arguments(arguments, path)),
            cwd=self._layout.root,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return done.returncode

    def _apply_pipelines(self) -> state.Applied:
        done = subprocess.run(
            _compose_command(*_pipelines_arguments(("apply", "--yes"), None)),
            cwd=self._layout.root,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return state.Applied(succeeded=done.returncode == 0, text=(done.stdout + done.stderr).strip())

    async def down(self) -> None:
        """Stop and remove the containers; volumes stay."""
        await asyncio.to_thread(self._compose, "down", "--remove-orphans")
        self._layout.stack_env.unlink(missing_ok=True)

    async def clean(self) -> None:
        """Stop the stack and delete its volumes and the files channel."""
        await asyncio.to_thread(self._compose, "down", "--remove-orphans", "--volumes")
        shutil.rmtree(self._layout.state_folder, ignore_errors=True)
        for folder in self._layout.channel_folders:
            shutil.rmtree(folder, ignore_errors=True)

    async def readiness(self) -> dict[str, bool]:
        """Return which containers run and are healthy. One that is missing altogether is not ready."""
        wanted = (await asyncio.to_thread(self._compose, "config", "--services")).split()
        healthy = {each["Service"] for each in self._containers() if each.get("Health") in {"healthy", ""}}
        return {name: name in healthy for name in sorted(wanted) if name not in _ONE_SHOTS}

    def _choose_ports(self) -> None:
        """Keep the ports of the containers that run; of the others take the usual ones, or free ones."""
        published = self._published_ports() if self._containers() else {}
        kept = {name: port for name, port in published.items() if self._demanded[name] in {None, port}}
        usual = {name: port for name, port in _DEFAULT_PORTS.items() if name not in kept}
        try:
            self._ports = kept | choose_ports(self._demanded, self._ports, listen, usual)
        except PortTakenError as error:
            raise StackError(str(error)) from error

    def read_secret(self, place: str) -> str:
        """Return the text of a file in the volumes of secrets."""
        return self._compose(*_IN_SECRETS, "--entrypoint", "cat", "provision", f"/secrets/{place}")

    def replace_secret(self, place: str, text: str) -> None:
        """Replace such a file, whole or not at all."""
        self._compose(*_IN_SECRETS, "provision", "etlpay_cli.provision", "/secrets", place, stdin=text)

    @property
    def definitions_path(self) -> str:
        """Where the broker finds its definitions, in its container."""
        return "/run/etlpay/definitions.json"

    def rabbitmqctl(self, *arguments: str, accepted: Sequence[int] = (0,)) -> None:
        """Run a command of the broker's operator."""
        self._compose("exec", "--no-TTY", "rabbitmq", "rabbitmqctl", "-q", *arguments, accepted=accepted)

    def _containers(self) -> list[dict[str, Any]]:
        """Return the containers that run. Compose writes one JSON object a line, or in older versions one array."""
        output = self._compose("ps", "--format", "json").strip()
        if output.startswith("["):
            listed: list[dict[str, Any]] = msgspec.json.decode(output)
            return listed
        return [msgspec.json.decode(line) for line in output.splitlines()]

    def _published_ports(self) -> dict[str, int]:
        """Return the ports on this machine: those of the running containers, which may have been started by hand."""
        inside = {8000: "http", 50051: "grpc", 5672: "amqp", 5432: "postgres", 6379: "redis"}
        published = {
            inside[each["TargetPort"]]: int(each["PublishedPort"])
            for container in self._containers()
            for each in container.get("Publishers") or ()
            if each["TargetPort"] in inside and each["PublishedPort"]
        }
        # The cache is not published unless an operator asks for it: compose.redis.yaml.
        own = {name: port for name, port in self._ports.items() if name != "redis"}
        return own | published

    def _credentials(self) -> Credentials:
        """Read the generated passwords out of the volume in which they lie."""
        printed = self._compose(
            *(*_IN_SECRETS, "--entrypoint", "python", "provision", "-c"),
            "import pathlib\n"
            "for p in pathlib.Path('/secrets/operator').iterdir():\n"
            "    if not p.suffix: print(p.name, p.read_text().strip())",
        )
        return Credentials.of_folder(dict(line.split(maxsplit=1) for line in printed.splitlines()))

    def _compose(self, *arguments: str, stdin: str = "", accepted: Sequence[int] = (0,), **environment: str) -> str:
        done = subprocess.run(
            _compose_command(*arguments),
            cwd=self._layout.root,
            env=self._environment() | environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in accepted:
            raise StackError(f"docker compose {arguments[0]} failed", details=done.stderr.strip())
        return done.stdout

    def _compose_loud(self, *arguments: str) -> None:
        """Let compose show its own progress, on stderr, because building takes long."""
        done = subprocess.run(
            _compose_command(*arguments),
            cwd=self._layout.root,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=2,
            check=False,
        )
        if done.returncode != 0:
            logs = self._compose("logs", "--no-color", "--tail", "20")
            raise StackError("docker compose up failed", details=logs)

    def _environment(self) -> dict[str, str]:
        ports = {f"ETLPAY_{name.upper()}_PORT": str(port) for name, port in self._ports.items()}
        named = {"ETLPAY_PROJECT": self._name, "COMPOSE_PROJECT_NAME": self._name}
        return inherited_environment(without=()) | compose_variables(self._layout.files) | named | ports


def _pipelines_arguments(arguments: Sequence[str], path: Path | None) -> tuple[str, ...]:
    """Return the arguments of compose that run the one-shot; a path of this machine is mounted for it."""
    if path is None:
        return (*_PIPELINES, "pipelines", *arguments)
    folder = path.resolve() if path.is_dir() else path.resolve().parent
    inside = _GIVEN if path.is_dir() else f"{_GIVEN}/{path.name}"
    return (*_PIPELINES, "--volume", f"{folder}:{_GIVEN}:ro", "pipelines", *arguments, inside)


def docker_works(layout: Layout) -> bool:
    """Tell whether there is an engine that answers, compose, and a compose file for them."""
    return (layout.root / "compose.yaml").exists() and _succeeds("info") and _succeeds("compose", "version")


def compose_variables(files: Path) -> dict[str, str]:
    """Return the variables of compose.yaml: the files channel is this checkout's folder, for a user who may read it."""
    variables = {"ETLPAY_FILES": str(files)}
    if os.geteuid() != 0:
        # The watcher must be able to claim what this user drops, and this user to take back what failed.
        variables |= {"ETLPAY_UID": str(os.geteuid()), "ETLPAY_GID": str(os.getegid())}
    return variables


def prepare_files(layout: Layout) -> None:
    """Make the folders of the files channel usable for the watcher's container."""
    for folder in layout.channel_folders:
        layout.make_channel_folder(folder)
        if os.geteuid() == 0:
            os.chown(folder, _SERVICE_UID, _SERVICE_UID)
            for inner in (each for each in folder.rglob("*") if not each.is_symlink()):
                os.chown(inner, _SERVICE_UID, _SERVICE_UID)
    if os.geteuid() == 0:
        os.chown(layout.files, _SERVICE_UID, _SERVICE_UID)
        os.setxattr(layout.inbox, _ACL, default_acl(_SERVICE_UID))


def default_acl(uid: int) -> bytes:
    """Return the kernel's form of `d:u::rwx,d:u:<uid>:rwx,d:g::r-x,d:m::rwx,d:o::---`."""
    entries = (
        (_ACL_USER_OBJ, 7, _ACL_NO_ID),
        (_ACL_USER, 7, uid),
        (_ACL_GROUP_OBJ, 5, _ACL_NO_ID),
        (_ACL_MASK, 7, _ACL_NO_ID),
        (_ACL_OTHER, 0, _ACL_NO_ID),
    )
    return struct.pack("<I", _ACL_VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def _compose_command(*arguments: str) -> tuple[str, ...]:
    return (shutil.which("docker") or "docker", "compose", *arguments)


def _succeeds(*arguments: str) -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        done = subprocess.run((docker, *arguments), capture_output=True, check=False, timeout=_PROBE_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
