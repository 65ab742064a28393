"""`etlpay clean`: stops the stack and deletes its data."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from etlpay_cli import console, deletion
from etlpay_cli.commands.invocation import checkout, refuse, run
from etlpay_cli.errors import USAGE
from etlpay_cli.stack import all_stacks


def clean(*, yes: Annotated[bool, typer.Option("--yes", help="Delete without a question.")] = False) -> None:
    """Stop everything and delete all of its data, inbox and filed files included. Asks before it deletes events.

    Exit code 2 where it cannot ask, or cannot count the events.
    """
    layout, settings = checkout()
    stacks = all_stacks(layout, settings)
    if not yes:
        _confirm(deletion.look(layout, stacks))
    with console.progress("stopping EtlPay and deleting its data"):
        for stack in stacks:
            run(stack.clean())
    console.stderr.print("EtlPay is down, its data is deleted.")


def _confirm(lost: deletion.Deletion) -> None:
    if lost.harmless:
        return
    if lost.events is None:
        refuse(
            "the ledger cannot be counted; start it with `make up`, or delete it all the same: make clean YES=1", USAGE
        )
    if not sys.stdin.isatty():
        refuse(f"this would delete {lost.describe()}; without a terminal say: make clean YES=1", USAGE)
    typer.confirm(f"This deletes {lost.describe()}. Go on?", abort=True, err=True)
