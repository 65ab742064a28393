"""`etlpay status`: shows the stack and its addresses."""

from __future__ import annotations

from typing import Annotated

import typer

from etlpay_cli import console
from etlpay_cli.commands.invocation import refuse, require_stack, run
from etlpay_cli.errors import UNAVAILABLE


def status(
    *, as_json: Annotated[bool, typer.Option("--json", help="Addresses, with passwords, as JSON.")] = False
) -> None:
    """Show whether each part is ready and where it is reached. Exit code 5 when not all of it is."""
    _, _, stack = require_stack()
    ready = run(stack.readiness())
    if as_json:
        console.print_json(stack.addresses())
    else:
        console.show_readiness(ready, stack.details())
        console.show_addresses(stack.addresses())
    if missing := [name for name, is_ready in ready.items() if not is_ready]:
        refuse(f"not ready: {', '.join(missing)}", UNAVAILABLE)
