"""The names of the folders and files of a stack, in one place."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

DATABASE = "etlpay"


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders and files of the stack of one checkout."""

    root: Path

    @property
    def state_folder(self) -> Path:
        """All that a local stack writes, except the files channel."""
        return self.root / ".etlpay"

    @property
    def pipelines(self) -> Path:
        """The pipeline files that a start applies, without those in folders below."""
        return self.root / "pipelines"

    @property
    def has_pipelines(self) -> bool:
        """There are pipeline files to apply."""
        return any(not path.name.endswith(".test.toml") for path in self.pipelines.glob("*.toml"))

    @property
    def plans(self) -> Path:
        """Plans of pipelines that were shown."""
        return self.state_folder / "plans"

    @property
    def files(self) -> Path:
        """The root of the files channel: inbox, work, done, failed."""
        return self.root / "data"

    @property
    def inbox(self) -> Path:
        """Where producers drop files."""
        return self.files / "inbox"

    @property
    def channel_folders(self) -> tuple[Path, ...]:
        """The folders between which the watcher moves files."""
        return tuple(self.files / name for name in ("inbox", "work", "done", "failed"))

    @property
    def state(self) -> Path:
        """What is running, see state.py."""
        return self.state_folder / "state.json"

    @property
    def project(self) -> Path:
        """The name of this checkout's containers, see project.py."""
        return self.state_folder / "project.json"

    @property
    def lock(self) -> Path:
        """Held by the supervisor as long as it lives."""
        return self.state_folder / "supervisor.lock"

    @property
    def producers_lock(self) -> Path:
        """Held by the command that changes the producers of the queue."""
        return self.state_folder / "producers.lock"

    @property
    def stack_env(self) -> Path:
        """Settings with which a service that is started by hand finds the stack."""
        return self.state_folder / "stack.env"

    @property
    def secrets(self) -> Path:
        """One folder of secrets per service, see provision.py."""
        return self.state_folder / "secrets"

    @property
    def postgres(self) -> Path:
        """PostgreSQL's data folder."""
        return self.state_folder / "postgres"

    @property
    def valkey(self) -> Path:
        """Valkey's working folder, which stays empty."""
        return self.state_folder / "valkey"

    @property
    def rabbitmq(self) -> Path:
        """RabbitMQ's configuration, cookie and data."""
        return self.state_folder / "rabbitmq"

    @property
    def run(self) -> Path:
        """The current folder of the services: empty, so that they read no stack.env."""
        return self.state_folder / "run"

    @property
    def logs(self) -> Path:
        """One log per program."""
        return self.state_folder / "logs"

    def log(self, program: str) -> Path:
        """Return the log of a program."""
        return self.logs / f"{program}.log"

    def secret(self, place: str) -> Path:
        """Return the file of a secret, given as folder/file."""
        return self.secrets / place

    def read_secret(self, place: str) -> str:
        """Return a secret, given as folder/file."""
        return self.secret(place).read_text().strip()

    def make_channel_folder(self, folder: Path) -> None:
        """Make one of the folders of the files channel, closed to other users of this machine."""
        for each in (self.files, folder):
            each.mkdir(mode=0o750, exist_ok=True)

    def make_folders(self) -> None:
        """Make the folders; only this user can read what is in them.

        As root the state folder can be passed through, though not listed: PostgreSQL refuses to run as root, and its
        own user has to reach its data.
        """
        self.state_folder.mkdir(exist_ok=True)
        self.state_folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
        for folder in (self.logs, self.run, self.valkey, self.rabbitmq):
            folder.mkdir(mode=0o700, exist_ok=True)
        self.make_channel_folder(self.inbox)
