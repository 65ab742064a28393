"""`etlpay producers`: makes, lists and revokes those who may publish to the queue, each under sources of its own.

A producer is a broker user that can hand over events and do nothing else, and an entry in the file of producers, by
which queue-consumer knows the sources that this user may name. The file holds no secret.
"""

from __future__ import annotations

import contextlib
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec
import typer
from rich.table import Table

from etlpay_cli import console, state
from etlpay_cli.commands.invocation import refuse
from etlpay_cli.demo import DEMO_SOURCES
from etlpay_cli.errors import ERROR, USAGE, StackError
from etlpay_cli.provision import (
    DEFINITIONS_PLACE,
    PRODUCER_PREFIX,
    PRODUCERS_PLACE,
    render_definitions,
    with_producer,
    without_producer,
)
from shared.auth.files import AccessFileError
from shared.auth.producers import PRODUCERS_FILE, Producer, producers_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from etlpay_cli.stack import Stack

app = typer.Typer(name="producers", help="Make, list and revoke producers of the queue.", no_args_is_help=True)

NameOption = Annotated[str, typer.Option(help="Whose it is. Its user at the broker is `producer-NAME`.")]
SourceOption = Annotated[
    list[str], typer.Option("--source", help="A source it may name; `shop*`: all that begin so; `*`: all. Repeatable.")
]

_PASSWORD_BYTES: Final = 32
# `rabbitmqctl` says so of a user that is not there.
_NO_USER: Final = 67


@app.command()
def create(context: typer.Context, name: NameOption, source: SourceOption) -> None:
    """Print the address of a new producer, once. From the first one on, the queue takes messages of producers only."""
    with _editing(context) as stack:
        known = _read(stack)
        added = _producer(name, f"{PRODUCER_PREFIX}{name}", source)
        producers = [*(known or _stacks_own()), added]
        if problem := producers_problem(producers):
            refuse(problem, USAGE)
        password = secrets.token_urlsafe(_PASSWORD_BYTES)
        # The binding first: a user without one could name every source as long as nobody is bound.
        stack.replace_secret(PRODUCERS_PLACE, render(producers))
        _replace_definitions(stack, with_producer(_read_definitions(stack), added.user, password))
        stack.rabbitmqctl("import_definitions", stack.definitions_path)
        broker = urlsplit(stack.addresses().amqp)
        console.stdout.print(f"amqp://{added.user}:{password}@{broker.hostname}:{broker.port}/")
    console.stderr.print(f"This is shown once. Each message needs the property user_id with the value {added.user}.")
    if not known:
        console.stderr.print(
            "From now on a message whose user_id is not in `etlpay producers list` is parked, and not stored."
        )


@app.command(name="list")
def show(context: typer.Context) -> None:
    """Show who may publish to the queue, under which sources, and since when."""
    table = Table("name", "user", "sources", "created", box=None)
    with _editing(context) as stack:
        for producer in _read(stack):
            table.add_row(producer.name, producer.user, " ".join(producer.sources), producer.created.isoformat())
    console.stdout.print(table)


@app.command()
def revoke(context: typer.Context, name: Annotated[str, typer.Option(help="Whose access ends.")]) -> None:
    """Delete a producer. Its connections end, and what it sent and nobody has taken yet will be parked."""
    with _editing(context) as stack:
        producers = _read(stack)
        revoked = next((producer for producer in producers if producer.name == name), None)
        if revoked is None:
            refuse("there is no such producer", ERROR)
        if revoked.user.startswith(PRODUCER_PREFIX):
            _replace_definitions(stack, without_producer(_read_definitions(stack), revoked.user))
            stack.rabbitmqctl("delete_user", revoked.user, accepted=(0, _NO_USER))
        stack.replace_secret(PRODUCERS_PLACE, render([each for each in producers if each is not revoked]))
    console.stderr.print(f"revoked: {revoked.user}")


def render(producers: Sequence[Producer]) -> str:
    """Return the text of the file of producers."""
    blocks = (
        "[[producers]]\n"
        f"name = {_quote(producer.name)}\n"
        f"user = {_quote(producer.user)}\n"
        f"sources = [{', '.join(map(_quote, producer.sources))}]\n"
        f"created = {producer.created.isoformat()}\n"
        for producer in producers
    )
    return "# Written by `etlpay producers`. It holds no secret.\n\n" + "\n".join(blocks)


def _quote(text: str) -> str:
    """Return a TOML string: as in JSON, for text without control characters."""
    return msgspec.json.encode(text).decode()


def _stacks_own() -> list[Producer]:
    """Return the users of the stack itself that publish: an operator may name every source, the demo its own."""
    return [_producer("operator", "operator", ["*"]), _producer("demo", "producer", [DEMO_SOURCES["queue"]])]


def _producer(name: str, user: str, sources: Sequence[str]) -> Producer:
    made = {"name": name, "user": user, "sources": sources, "created": datetime.now(UTC).replace(microsecond=0)}
    try:
        return msgspec.convert(made, Producer)
    except msgspec.ValidationError as error:
        refuse(f"no valid producer: {error}", USAGE)


@contextlib.contextmanager
def _editing(context: typer.Context) -> Iterator[Stack]:
    """Give the stack that is up, to one command at a time; end the command where it cannot do its work."""
    find: Callable[[], tuple[Path, Stack]] = context.obj
    lock, stack = find()
    try:
        with state.hold(lock):
            yield stack
    except state.AlreadyUpError:
        refuse("another command is changing the producers", ERROR)
    except AccessFileError as error:
        refuse(str(error), ERROR)
    except StackError as error:
        console.print_error(str(error), details=error.details)
        raise typer.Exit(error.exit_code) from None


def _read(stack: Stack) -> list[Producer]:
    return PRODUCERS_FILE.parse(stack.read_secret(PRODUCERS_PLACE).encode())


def _read_definitions(stack: Stack) -> dict[str, Any]:
    read: dict[str, Any] = msgspec.json.decode(stack.read_secret(DEFINITIONS_PLACE))
    return read


def _replace_definitions(stack: Stack, wanted: dict[str, Any]) -> None:
    stack.replace_secret(DEFINITIONS_PLACE, render_definitions(wanted))
