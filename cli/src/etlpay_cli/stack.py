"""Chooses between containers and processes, and finds the stack that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from etlpay_cli import state
from etlpay_cli.docker import DockerStack, docker_works
from etlpay_cli.local.control import LocalStack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from etlpay_cli.addresses import Addresses
    from etlpay_cli.layout import Layout
    from etlpay_cli.settings import CliSettings


class Stack(Protocol):
    """EtlPay as containers or as processes. Methods raise StackError where they fail."""

    @property
    def mode(self) -> state.Mode:
        """Containers or processes."""

    def is_up(self) -> bool:
        """Return True while it runs, ready or not."""

    def addresses(self) -> Addresses:
        """Return its addresses."""

    def details(self) -> dict[str, str]:
        """Return a detail of each part, such as its process id."""

    def count_events(self) -> int | None:
        """Return how many events its ledger holds; 0 where there is no ledger, None where it cannot be counted now."""

    async def up(self, *, servers_only: bool, progress: Callable[[str], None]) -> None:
        """Start it and wait until it is ready."""

    def applied_pipelines(self) -> state.Applied | None:
        """Return what became of the pipeline files at the start; None: there were none."""

    def run_pipelines(self, *arguments: str, path: Path | None = None) -> int:
        """Run the one-shot of the pipelines, which prints, and return its exit code.

        `path`: a pipeline file or a folder of them; else those of the checkout.
        """

    async def down(self) -> None:
        """Stop it; data stays."""

    async def clean(self) -> None:
        """Stop it and delete its data."""

    async def readiness(self) -> dict[str, bool]:
        """Ask each part whether it is ready."""

    def read_secret(self, place: str) -> str:
        """Return the text of a file of the secrets, given as folder/file."""

    def replace_secret(self, place: str, text: str) -> None:
        """Replace such a file, whole or not at all."""

    @property
    def definitions_path(self) -> str:
        """Where the broker finds its definitions."""

    def rabbitmqctl(self, *arguments: str, accepted: Sequence[int] = (0,)) -> None:
        """Run a command of the broker's operator; an exit code that is not accepted raises."""


def choose_stack(layout: Layout, settings: CliSettings, wanted: state.Mode | None) -> Stack:
    """Return the wanted kind of stack; without one containers where there is an engine, else processes."""
    if wanted is None:
        wanted = state.DOCKER if docker_works(layout) else state.LOCAL
    return DockerStack(layout, settings) if wanted == state.DOCKER else LocalStack(layout)


def running_stack(layout: Layout, settings: CliSettings) -> Stack | None:
    """Return the stack that is up, if one is."""
    local = LocalStack(layout)
    if local.is_up():
        return local
    containers = DockerStack(layout, settings)
    return containers if containers.is_up() else None


def all_stacks(layout: Layout, settings: CliSettings) -> list[Stack]:
    """Return every stack that may have left data on this machine."""
    local: list[Stack] = [LocalStack(layout)]
    return [*local, DockerStack(layout, settings)] if docker_works(layout) else local
