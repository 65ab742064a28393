"""`etlpay down`: stops the stack."""

from __future__ import annotations

from etlpay_cli import console, state
from etlpay_cli.commands.invocation import checkout, run
from etlpay_cli.stack import choose_stack, running_stack


def down() -> None:
    """Stop everything; data stays."""
    layout, settings = checkout()
    stack = running_stack(layout, settings)
    with console.progress("stopping EtlPay"):
        # Where nothing is up, programs may still run whose local supervisor was killed.
        run((stack or choose_stack(layout, settings, state.LOCAL)).down())
    console.stderr.print("EtlPay is down." if stack is not None else "EtlPay was not up.")
