"""The `etlpay` command. Exit codes: 0 done, 1 error, 2 usage, 5 the stack is not up, 130 interrupted."""

from __future__ import annotations

import asyncio
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from pydantic import ValidationError

from etlpay_cli import deletion, keys, producers, screen, state
from etlpay_cli.audit import audit as ask_for_audit
from etlpay_cli.audit import connect_to, exit_code
from etlpay_cli.demo import DEMO_SOURCES, Demo, connect
from etlpay_cli.errors import ERROR, INTERRUPTED, UNAVAILABLE, USAGE, StackError
from etlpay_cli.layout import Layout
from etlpay_cli.settings import CliSettings, RootNotFoundError, find_root
from etlpay_cli.spans import parse_span
from etlpay_cli.stack import all_stacks, choose_stack, running_stack

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from etlpay_cli.addresses import Addresses
    from etlpay_cli.judgement import Verdict
    from etlpay_cli.stack import Stack

_Result = TypeVar("_Result")

app = typer.Typer(
    name="etlpay",
    help="Run EtlPay on this machine and look after it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.add_typer(keys.app)
app.add_typer(producers.app)


class WantedMode(StrEnum):
    """Where the stack shall run."""

    AUTO = "auto"
    LOCAL = "local"
    DOCKER = "docker"


_MODES: dict[WantedMode, state.Mode | None] = {
    WantedMode.AUTO: None,
    WantedMode.LOCAL: state.LOCAL,
    WantedMode.DOCKER: state.DOCKER,
}


@app.command()
def up(
    mode: Annotated[
        WantedMode, typer.Option(help="Containers, or processes on this machine; auto: containers where they work.")
    ] = WantedMode.AUTO,
    *,
    servers: Annotated[
        bool, typer.Option("--servers", help="Only PostgreSQL, Valkey and RabbitMQ, as processes.")
    ] = False,
) -> None:
    """Start everything, wait until it is ready and print the addresses."""
    layout, settings = _here()
    wanted = state.LOCAL if servers else _MODES[mode]
    running = running_stack(layout, settings)
    if running is not None and state.LOCAL in {running.mode, wanted}:
        screen.talk.print(f"EtlPay is already up in {running.mode} mode. `etlpay status` shows it.")
        return
    # Containers that run are brought up to date: compose replaces those whose image changed.
    stack = running or choose_stack(layout, settings, wanted)
    with screen.progress(f"starting EtlPay in {stack.mode} mode") as progress:
        _run(stack.up(servers_only=servers, progress=progress))
    screen.show_addresses(stack.addresses())


@app.command()
def down() -> None:
    """Stop everything; data stays."""
    layout, settings = _here()
    stack = running_stack(layout, settings)
    with screen.progress("stopping EtlPay"):
        # Where nothing is up, programs may still have outlived a local supervisor that was killed.
        _run((stack or choose_stack(layout, settings, state.LOCAL)).down())
    screen.talk.print("EtlPay is down." if stack is not None else "EtlPay was not up.")


@app.command()
def clean(*, yes: Annotated[bool, typer.Option("--yes", help="Delete without a question.")] = False) -> None:
    """Stop everything and delete all of its data, inbox and filed files included. Asks before it deletes events.

    Exit code 2 where it cannot ask, or cannot tell how much there is.
    """
    layout, settings = _here()
    stacks = all_stacks(layout, settings)
    if not yes:
        _ask_to_delete(deletion.look(layout, stacks))
    with screen.progress("stopping EtlPay and deleting its data"):
        for stack in stacks:
            _run(stack.clean())
    screen.talk.print("EtlPay is down, its data is deleted.")


def _ask_to_delete(lost: deletion.Deletion) -> None:
    if lost.harmless:
        return
    if lost.events is None:
        screen.complain(
            "the ledger cannot be counted; start it with `make up`, or delete it all the same: make clean YES=1"
        )
        raise typer.Exit(USAGE)
    if not sys.stdin.isatty():
        screen.complain(f"this would delete {lost.describe()}; without a terminal say: make clean YES=1")
        raise typer.Exit(USAGE)
    typer.confirm(f"This deletes {lost.describe()}. Go on?", abort=True, err=True)


@app.command()
def status(
    *, as_json: Annotated[bool, typer.Option("--json", help="Addresses, with passwords, as JSON.")] = False
) -> None:
    """Show whether each part is ready and where it is reached. Exit code 5 when not all of it is."""
    stack = running_stack(*_here())
    if stack is None:
        screen.talk.print("EtlPay is not up; start it with: make up")
        raise typer.Exit(UNAVAILABLE)
    ready = _run(stack.readiness())
    if as_json:
        screen.print_json(stack.addresses())
    else:
        screen.show_readiness(ready, stack.details())
        screen.show_addresses(stack.addresses())
    if not all(ready.values()):
        missing = ", ".join(name for name, is_ready in ready.items() if not is_ready)
        screen.complain(f"not ready: {missing}")
        raise typer.Exit(UNAVAILABLE)


@app.command()
def demo() -> None:
    """Send one event through each channel, show each answer and record, and fail when one is missing."""
    layout, settings = _here()
    stack = running_stack(layout, settings)
    if stack is None:
        screen.talk.print("EtlPay is not up; start it with: make up")
        raise typer.Exit(UNAVAILABLE)
    missing = _run(_demonstrate(stack.addresses(), settings.demo_key.get_secret_value()))
    if missing:
        screen.complain(f"missing: {', '.join(missing)}")
        raise typer.Exit(ERROR)
    screen.talk.print("All four channels work.")


async def _demonstrate(doors: Addresses, api_key: str) -> list[str]:
    """Run the demo and return the sources whose event is missing."""
    missing = []
    async with connect(doors, api_key) as http:
        demonstration = Demo(doors, http, api_key)
        with screen.progress("sending one event through each channel"):
            async for passage in demonstration.passages():
                screen.show_passage(passage)
                if passage.record is None:
                    missing.append(passage.source)
        sources = await demonstration.sources()
    screen.show_sources(sources)
    listed = {source["name"] for source in sources}
    return missing + [f"{name} in GET /api/sources" for name in DEMO_SOURCES.values() if name not in listed]


@app.command()
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
    settings = CliSettings() if url is not None else None
    address = url or ""
    if settings is None:
        layout, settings = _here()
        stack = running_stack(layout, settings)
        if stack is None:
            screen.talk.print("EtlPay is not up; start it with: make up, or name a gateway with --url")
            raise typer.Exit(UNAVAILABLE)
        address = stack.addresses().http
    key = settings.api_key.get_secret_value() or settings.demo_key.get_secret_value()
    verdict = _run(_audit(address, key, since=since, until=until, source=source, wait_seconds=wait))
    if as_json:
        screen.print_json(verdict)
    else:
        screen.show_verdict(verdict)
    _tell_verdict(verdict)
    raise typer.Exit(exit_code(verdict))


async def _audit(  # noqa: PLR0913 - each is a flag
    address: str, key: str, *, since: str, until: str, source: str | None, wait_seconds: float
) -> Verdict:
    async with connect_to(address, key) as http:
        with screen.progress("asking for the books") as progress:
            return await ask_for_audit(
                http,
                since=parse_span(since),
                until=parse_span(until),
                source=source,
                wait_seconds=wait_seconds,
                progress=progress,
            )


def _tell_verdict(verdict: Verdict) -> None:
    for finding in verdict.settled_wrong:
        where = f"{finding.hour:%Y-%m-%d %H:00} UTC, {finding.line.source or '(unreadable)'}, {finding.line.channel}"
        screen.complain(f"{where}: {finding.missing} missing, {finding.without_record} without a record")
    _tell_doubts(verdict)
    if exit_code(verdict) == UNAVAILABLE:
        reasons = verdict.unsettled or ["something is missing, and may still come"]
        screen.complain(f"not settled yet: {'; '.join(reasons)}; --wait waits longer")
    elif exit_code(verdict) == 0:
        screen.talk.print("It balances: everything that was acknowledged is stored.")


def _tell_doubts(verdict: Verdict) -> None:
    """Say what cannot be vouched for: of each channel once, and of the lines that are the reason themselves."""
    told = {(doubt.hour, doubt.channel, doubt.reason) for doubt in verdict.doubts}
    for hour, channel, reason in sorted(told):
        screen.complain(f"{hour:%Y-%m-%d %H:00} UTC, {channel}: cannot be vouched for: {reason}")
    for finding in verdict.unvouched:
        where = f"{finding.hour:%Y-%m-%d %H:00} UTC, {finding.line.source or '(unreadable)'}, {finding.line.channel}"
        for reason in finding.doubts:
            if (finding.hour, finding.line.channel, reason) not in told:
                screen.complain(f"{where}: cannot be vouched for: {reason}")


def _here() -> tuple[Layout, CliSettings]:
    try:
        settings = CliSettings()
        return Layout(find_root(settings)), settings
    except RootNotFoundError:
        screen.complain("this is not a checkout of EtlPay; change into one or set ETLPAY_ROOT")
        raise typer.Exit(USAGE) from None
    except ValidationError as error:
        names = ", ".join(f"ETLPAY_{'.'.join(map(str, each['loc']))}".upper() for each in error.errors())
        screen.complain(f"not a valid setting: {names}")
        raise typer.Exit(USAGE) from None


def _run(work: Coroutine[None, None, _Result]) -> _Result:
    try:
        return asyncio.run(work)
    except StackError as error:
        screen.complain(str(error), more=error.details)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _running() -> tuple[Path, Stack]:
    """Return the stack that is up, and the lock of those who change its producers."""
    layout, settings = _here()
    stack = running_stack(layout, settings)
    if stack is None:
        screen.talk.print("EtlPay is not up; start it with: make up")
        raise typer.Exit(UNAVAILABLE)
    return layout.producers_lock, stack


def main() -> None:
    """Run the command line."""
    app(obj=_running)


if __name__ == "__main__":
    main()
