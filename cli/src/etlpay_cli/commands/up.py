"""`etlpay up`: starts the stack."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from etlpay_cli import console, state
from etlpay_cli.commands.invocation import checkout, run
from etlpay_cli.stack import choose_stack, running_stack


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
    layout, settings = checkout()
    wanted = state.LOCAL if servers else _MODES[mode]
    running = running_stack(layout, settings)
    if running is not None and state.LOCAL in {running.mode, wanted}:
        console.stderr.print(f"EtlPay is already up in {running.mode} mode. `etlpay status` shows it.")
        return
    # Containers that run are updated: compose replaces those whose image changed.
    stack = running or choose_stack(layout, settings, wanted)
    with console.progress(f"starting EtlPay in {stack.mode} mode") as progress:
        run(stack.up(servers_only=servers, progress=progress))
    console.show_addresses(stack.addresses())
    if (applied := stack.applied_pipelines()) is not None:
        if not applied.succeeded:
            console.print_warning("not every pipeline file is applied; events are taken all the same")
        console.show_text(applied.text)
