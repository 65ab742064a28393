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
    from etlpay_cli.judgement import Finding, Verdict

_AUDIT_COLUMNS = (
    "received", "stored", "duplicate", "conflict", "refused", "queued", "unknown", "events", "success", "failed",
    "settled_duplicate", "settled_conflict", "unconfirmed",
)  # fmt: skip

talk = Console(stderr=True, highlight=False, soft_wrap=True)
data = Console(highlight=False, soft_wrap=True)
if not data.is_terminal:
    # A file or a pipe has no width; 80 columns would cut names and numbers of a table.
    data.width = 200


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


def warn(message: str) -> None:
    """Say in one sentence what will be wrong soon."""
    talk.print(Text.assemble(("warning: ", "bold yellow"), message))


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


def show_verdict(verdict: Verdict) -> None:
    """Show every line of the audit, and their sums."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("hour", "source", "channel"):
        table.add_column(name)
    for name in (*_AUDIT_COLUMNS, "missing", "surplus"):
        table.add_column(name, justify="right")
    for finding in verdict.findings:
        hour = f"{finding.hour:%Y-%m-%d %H:00}"
        row = (hour, finding.line.source or "(unreadable)", finding.line.channel, *_audit_numbers(finding))
        style = "bold red" if not finding.balanced else "yellow" if finding.doubts else ""
        table.add_row(*map(Text, row), style=style)
    sums = [str(sum(column)) for column in zip(*map(_audit_values, verdict.findings), strict=True)]
    if sums:
        table.add_row("total", "", "", *sums, style="bold")
    data.print(table)
    for name, depth in (verdict.queues or {}).items():
        if depth:
            data.print(Text(f"{depth} messages wait in {name}", style="bold red"))


def _audit_values(finding: Finding) -> tuple[int, ...]:
    numbers = (getattr(finding.line, name) for name in _AUDIT_COLUMNS)
    return (*numbers, finding.missing, finding.surplus)


def _audit_numbers(finding: Finding) -> tuple[str, ...]:
    return tuple(map(str, _audit_values(finding)))


def print_json(value: object) -> None:
    """Print a value as one JSON document on stdout, never wrapped or coloured."""
    data.file.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def _without_password(address: str) -> str:
    scheme, separator, rest = address.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{separator}{user.partition(':')[0]}{at}{host}" if at else address
