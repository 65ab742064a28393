"""The `etlpay` command. Exit codes: 0 done, 1 error, 2 usage, 5 the stack is not up, 130 interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from etlpay_cli.commands import keys, pipeline_drift, producers
from etlpay_cli.commands.audit import audit
from etlpay_cli.commands.clean import clean
from etlpay_cli.commands.demo import demo
from etlpay_cli.commands.down import down
from etlpay_cli.commands.invocation import require_stack
from etlpay_cli.commands.status import status
from etlpay_cli.commands.totals import totals
from etlpay_cli.commands.up import up
from etlpay_cli.commands.validate import validate

if TYPE_CHECKING:
    from pathlib import Path

    from etlpay_cli.stack import Stack

app = typer.Typer(
    name="etlpay",
    help="Run EtlPay on this machine and look after it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (up, down, clean, status, demo, audit, validate, totals):
    app.command()(command)
for group in (keys.app, pipeline_drift.app, producers.app):
    app.add_typer(group)


def _running() -> tuple[Path, Stack]:
    """Return the lock of those who change the producers, and the stack that is up."""
    layout, _, stack = require_stack()
    return layout.producers_lock, stack


def main() -> None:
    """Run the command line."""
    app(obj=_running)


if __name__ == "__main__":
    main()
