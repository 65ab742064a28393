"""The command's output: results on stdout, messages on stderr, with colour and movement only on a terminal."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from etlpay_cli.addresses import Addresses
    from etlpay_cli.demo import DemoEvent
    from etlpay_cli.reconcile import Discrepancy, Report

_AUDIT_COLUMNS = (
    "received", "stored", "duplicate", "conflict", "refused", "queued", "unknown", "events", "success", "failed",
    "held", "settled_duplicate", "settled_conflict", "unconfirmed",
)  # fmt: skip

stderr = Console(stderr=True, highlight=False, soft_wrap=True)
stdout = Console(highlight=False, soft_wrap=True)
if not stdout.is_terminal:
    # A file or a pipe has no width; 80 columns would cut names and numbers of a table.
    stdout.width = 200


@contextlib.contextmanager
def progress(first: str) -> Iterator[Callable[[str], None]]:
    """Show what is being done: one moving line on a terminal, a line per step elsewhere."""
    if stderr.is_terminal:
        with stderr.status(first) as status:
            yield status.update
        return
    last = ""

    def show(text: str) -> None:
        nonlocal last
        if text != last:
            stderr.print(Text(text))
            last = text

    show(first)
    yield show


def print_error(message: str, *, details: str = "") -> None:
    """Print an error of one sentence, and its details."""
    stderr.print(Text.assemble(("error: ", "bold red"), message))
    if details:
        stderr.print(Text(details, style="dim"))


def print_warning(message: str) -> None:
    """Print a warning of one sentence."""
    stderr.print(Text.assemble(("warning: ", "bold yellow"), message))


def show_text(text: str) -> None:
    """Show what another program has printed."""
    stdout.print(Text(text))


def show_addresses(addresses: Addresses) -> None:
    """Show where the stack is reached. Passwords are left out; `etlpay status --json` has them."""
    table = Table.grid(padding=(0, 2))
    for name, address in msgspec.structs.asdict(addresses).items():
        table.add_row(Text(name, style="bold"), Text(_without_password(address)))
    table.add_row(Text("docs", style="bold"), Text(f"{addresses.http}/docs"))
    stdout.print(table)


def show_readiness(ready: Mapping[str, bool], details: Mapping[str, str]) -> None:
    """Show each part of the stack and whether it is ready."""
    table = Table.grid(padding=(0, 2))
    for name, is_ready in ready.items():
        word = Text("ready", style="green") if is_ready else Text("not ready", style="bold red")
        table.add_row(Text(name, style="bold"), word, Text(details.get(name, ""), style="dim"))
    stdout.print(table)


def show_demo_event(event: DemoEvent) -> None:
    """Show one event of the demo: the answer, and its record."""
    stdout.print(Text.assemble((f"{event.channel:<6}", "bold"), event.source))
    if event.answer:
        stdout.print(Text(f"       answer  {event.answer}"))
    if event.record is not None:
        stored = {name: event.record[name] for name in ("id", "event_id", "status", "result_payload")}
        stdout.print(Text(f"       record  {msgspec.json.encode(stored).decode()}", style="green"))
    if event.problem:
        stdout.print(Text(f"       MISSING {event.problem}", style="bold red"))


def show_sources(sources: list[dict[str, Any]]) -> None:
    """Show what GET /api/sources answered."""
    stdout.print(Text("GET /api/sources", style="bold"))
    for source in sources:
        stdout.print(Text(f"       {msgspec.json.encode(source).decode()}"))


def show_report(report: Report) -> None:
    """Show every line of the audit, and their sums."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("hour", "source", "channel"):
        table.add_column(name)
    for name in (*_AUDIT_COLUMNS, "missing", "surplus"):
        table.add_column(name, justify="right")
    for finding in report.findings:
        hour = f"{finding.hour:%Y-%m-%d %H:00}"
        row = (hour, finding.line.source or "(unreadable)", finding.line.channel, *_audit_numbers(finding))
        style = "bold red" if not finding.balanced else "yellow" if finding.doubts else ""
        table.add_row(*map(Text, row), style=style)
    sums = [str(sum(column)) for column in zip(*map(_audit_values, report.findings), strict=True)]
    if sums:
        table.add_row("total", "", "", *sums, style="bold")
    stdout.print(table)
    for name, depth in (report.queues or {}).items():
        if depth:
            stdout.print(Text(f"{depth} messages wait in {name}", style="bold red"))


def _audit_values(finding: Discrepancy) -> tuple[int, ...]:
    numbers = (getattr(finding.line, name) for name in _AUDIT_COLUMNS)
    return (*numbers, finding.missing, finding.surplus)


def _audit_numbers(finding: Discrepancy) -> tuple[str, ...]:
    return tuple(map(str, _audit_values(finding)))


def show_table(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: AbstractSet[str],
    marked: AbstractSet[int] = frozenset(),
) -> None:
    """Show texts as a table; columns of `numbers` to the right, `marked` rows, by their positions, in red."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(Text(name), justify="right" if name in numbers else "left")
    for position, row in enumerate(rows):
        table.add_row(*(Text(_printable(each)) for each in row), style="bold red" if position in marked else "")
    stdout.print(table)


def _printable(text: str) -> str:
    """Return a text without what a terminal obeys: names of members and values are whatever a producer sends."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def print_json(value: object) -> None:
    """Print a value as one JSON document on stdout, never wrapped or coloured."""
    stdout.file.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def _without_password(address: str) -> str:
    scheme, separator, rest = address.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{separator}{user.partition(':')[0]}{at}{host}" if at else address
