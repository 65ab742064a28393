"""`etlpay audit`: compares what was acknowledged with what is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from etlpay_cli import console
from etlpay_cli.audit import audit as run_audit
from etlpay_cli.audit import connect_to, exit_code
from etlpay_cli.commands.invocation import require_stack, run
from etlpay_cli.errors import UNAVAILABLE
from etlpay_cli.settings import CliSettings
from etlpay_cli.spans import parse_span

if TYPE_CHECKING:
    from etlpay_cli.reconcile import Discrepancy, Report


def audit(  # noqa: PLR0913 - each is a flag
    since: Annotated[str, typer.Option(help="How far back, such as 24h or 7d.")] = "24h",
    until: Annotated[str, typer.Option(help="How far back it ends; 1h leaves out what is still moving.")] = "0m",
    *,
    source: Annotated[str | None, typer.Option(help="One source only.")] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for what is under way.")] = 30.0,
    url: Annotated[str | None, typer.Option(help="A gateway; without it the one of the stack on this machine.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The findings, as JSON.")] = False,
) -> None:
    """Compare what was acknowledged with what is stored.

    Exit code 1: it does not balance; 5: too early to tell; 6: it cannot be vouched for, which is said of each hour.
    """
    if url is None:
        _, settings, stack = require_stack(advice=", or name a gateway with --url")
        url = stack.addresses().http
    else:
        settings = CliSettings()
    key = settings.api_key.get_secret_value() or settings.demo_key.get_secret_value()
    report = run(_audit(url, key, since=since, until=until, source=source, wait_seconds=wait))
    if as_json:
        console.print_json(report)
    else:
        console.show_report(report)
    _print_problems(report)
    raise typer.Exit(exit_code(report))


async def _audit(  # noqa: PLR0913 - each is a flag
    address: str, key: str, *, since: str, until: str, source: str | None, wait_seconds: float
) -> Report:
    async with connect_to(address, key) as http:
        with console.progress("asking for the audit") as progress:
            return await run_audit(
                http,
                since=parse_span(since),
                until=parse_span(until),
                source=source,
                wait_seconds=wait_seconds,
                progress=progress,
            )


def _print_problems(report: Report) -> None:
    for finding in report.settled_wrong:
        console.print_error(f"{_place(finding)}: {finding.missing} missing, {finding.without_record} without a record")
    _print_doubts(report)
    if exit_code(report) == UNAVAILABLE:
        reasons = report.unsettled or ["something is missing, and may still come"]
        console.print_error(f"not settled yet: {'; '.join(reasons)}; --wait waits longer")
    elif exit_code(report) == 0:
        console.stderr.print("It balances: everything that was acknowledged is stored.")


def _print_doubts(report: Report) -> None:
    """Print why lines cannot be vouched for: a reason of a whole channel once, then those of single lines."""
    printed = {(doubt.hour, doubt.channel, doubt.reason) for doubt in report.doubts}
    for hour, channel, reason in sorted(printed):
        console.print_error(f"{hour:%Y-%m-%d %H:00} UTC, {channel}: cannot be vouched for: {reason}")
    for finding in report.unvouched:
        for reason in finding.doubts:
            if (finding.hour, finding.line.channel, reason) not in printed:
                console.print_error(f"{_place(finding)}: cannot be vouched for: {reason}")


def _place(finding: Discrepancy) -> str:
    return f"{finding.hour:%Y-%m-%d %H:00} UTC, {finding.line.source or '(unreadable)'}, {finding.line.channel}"
