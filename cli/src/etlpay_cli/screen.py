"""What the command says to people: on stderr, and with colour and movement only on a terminal (rich sees to both)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from etlpay_cli.addresses import Addresses
    from etlpay_cli.demo import Passage

talk = Console(stderr=True, highlight=False, soft_wrap=True)
data = Console(highlight=False, soft_wrap=True)


@contextlib.contextmanager
def progress(first: str) -> Iterator[Callable[[str], None]]:
    """Show what is being done: one moving line on a terminal, a line per step elsewhere."""
    if talk.is_terminal:
        with talk.status(first) as status:
            yield status.update
        return
    said = ""

    def say(text: str) -> None:
        nonlocal said
        if text != said:
            talk.print(Text(text))
            said = text

    say(first)
    yield say


def complain(message: str, *, more: str = "") -> None:
    """Say what is wrong in one sentence, with details where there are any."""
    talk.print(Text.assemble(("error: ", "bold red"), message))
    if more:
        talk.print(Text(more, style="dim"))


def show_addresses(doors: Addresses) -> None:
    """Show where the stack is reached. Passwords are left out; `etlpay status --json` has them."""
    table = Table.grid(padding=(0, 2))
    for name, address in msgspec.structs.asdict(doors).items():
        table.add_row(Text(name, style="bold"), Text(_without_password(address)))
    table.add_row(Text("docs", style="bold"), Text(f"{doors.http}/docs"))
    data.print(table)


def show_readiness(ready: Mapping[str, bool], details: Mapping[str, str]) -> None:
    """Show each part of the stack and whether it is ready."""
    table = Table.grid(padding=(0, 2))
    for name, is_ready in ready.items():
        word = Text("ready", style="green") if is_ready else Text("not ready", style="bold red")
        table.add_row(Text(name, style="bold"), word, Text(details.get(name, ""), style="dim"))
    data.print(table)


def show_passage(passage: Passage) -> None:
    """Show one event of the demo: what was answered, and the record that became of it."""
    data.print(Text.assemble((f"{passage.channel:<6}", "bold"), passage.source))
    if passage.answer:
        data.print(Text(f"       answer  {passage.answer}"))
    if passage.record is not None:
        stored = {name: passage.record[name] for name in ("id", "event_id", "status", "result_payload")}
        data.print(Text(f"       record  {msgspec.json.encode(stored).decode()}", style="green"))
    if passage.problem:
        data.print(Text(f"       MISSING {passage.problem}", style="bold red"))


def show_sources(sources: list[dict[str, Any]]) -> None:
    """Show what GET /api/sources answered."""
    data.print(Text("GET /api/sources", style="bold"))
    for source in sources:
        data.print(Text(f"       {msgspec.json.encode(source).decode()}"))


def print_json(value: object) -> None:
    """Print a value as one JSON document on stdout, never wrapped or coloured."""
    data.file.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def _without_password(address: str) -> str:
    scheme, separator, rest = address.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{separator}{user.partition(':')[0]}{at}{host}" if at else address
