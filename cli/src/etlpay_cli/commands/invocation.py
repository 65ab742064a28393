"""What the commands share: find the checkout and its stack, run the work, and end with an exit code."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer
from pydantic import ValidationError

from etlpay_cli import console
from etlpay_cli.errors import INTERRUPTED, UNAVAILABLE, USAGE, StackError
from etlpay_cli.gateway import ask as ask_gateway
from etlpay_cli.layout import Layout
from etlpay_cli.settings import CliSettings, RootNotFoundError, find_root
from etlpay_cli.spans import parse_span
from etlpay_cli.stack import running_stack

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from etlpay_cli.stack import Stack

_Result = TypeVar("_Result")

LimitOption = Annotated[int, typer.Option(min=1, max=500, help="How many are shown at most.")]


def checkout() -> tuple[Layout, CliSettings]:
    """Return the checkout that the command is called in, and its settings; else end with a usage error."""
    try:
        settings = CliSettings()
        return Layout(find_root(settings)), settings
    except RootNotFoundError:
        refuse("this is not a checkout of EtlPay; change into one or set ETLPAY_ROOT", USAGE)
    except ValidationError as error:
        names = ", ".join(f"ETLPAY_{'.'.join(map(str, each['loc']))}".upper() for each in error.errors())
        refuse(f"not a valid setting: {names}", USAGE)


def require_stack(*, advice: str = "") -> tuple[Layout, CliSettings, Stack]:
    """Return the stack that is up, with its checkout and settings; else say how to start it, and end."""
    layout, settings = checkout()
    stack = running_stack(layout, settings)
    if stack is None:
        console.stderr.print(f"EtlPay is not up; start it with: make up{advice}")
        raise typer.Exit(UNAVAILABLE)
    return layout, settings, stack


def run(work: Coroutine[None, None, _Result]) -> _Result:
    """Return the result of the work; end with the exit code of its error, if it raises one."""
    try:
        return asyncio.run(work)
    except StackError as error:
        console.print_error(str(error), details=error.details)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def ask(path: str, parameters: Mapping[str, str | int], answer: type[_Result]) -> _Result:
    """Return what the gateway of the stack that is up answers; else end with an exit code."""
    _, settings, stack = require_stack()
    key = settings.api_key.get_secret_value() or settings.demo_key.get_secret_value()
    return run(ask_gateway(stack.addresses().http, key, path, parameters, answer))


def moment_before(span: str) -> str:
    """Return the moment that was `24h`, `30m` or `7d` ago; end with a usage error where the text is none of these."""
    try:
        return (datetime.now(UTC) - parse_span(span)).isoformat()
    except StackError as error:
        refuse(str(error), error.exit_code)


def refuse(reason: str, exit_code: int) -> NoReturn:
    """Print an error and end with the exit code."""
    console.print_error(reason)
    raise typer.Exit(exit_code)
