"""`etlpay pipeline plan`, `apply` and what is decided about versions: run by the one-shot of the stack that is up."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from etlpay_cli.commands.invocation import refuse, require_stack
from etlpay_cli.commands.pipeline import JsonOption, app
from etlpay_cli.errors import ERROR, USAGE, StackError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["app"]

PathArgument = Annotated[
    Path | None, typer.Argument(help="A pipeline file, or a folder of them; else `pipelines` of the checkout.")
]
NameArgument = Annotated[str, typer.Argument(help="The name of a pipeline.")]
VersionArgument = Annotated[str, typer.Argument(metavar="NAME@N", help="A pipeline and the number of a version.")]
ReasonOption = Annotated[str, typer.Option(help="Why; it is kept with the decision.")]
ByOption = Annotated[str | None, typer.Option(help="Who decides; else the user of this system.")]

_EXIT_CODES: Final = frozenset({0, ERROR, USAGE})


@app.command()
def plan(
    path: PathArgument = None,
    *,
    sql: Annotated[bool, typer.Option("--sql", help="Print the statements alone.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what applying pipeline files would do; nothing is written. Exit code 1: a file is refused."""
    _run("plan", *_flags(sql="--sql" if sql else "", json="--json" if as_json else ""), path=path)


@app.command()
def apply(  # noqa: PLR0913 - the flags of the command
    path: PathArgument = None,
    *,
    plan: Annotated[str | None, typer.Option(help="The token of a plan: exactly that is done, or nothing.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Whatever the plan is.")] = False,
    label: Annotated[str | None, typer.Option(help="What this version is called, such as a commit.")] = None,
    verify_only: Annotated[
        bool, typer.Option("--verify-only", help="Run no statement; register what an administrator has made.")
    ] = False,
    by: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """Do what a plan says: create and add, register versions and activate them. Exit code 1: not all of it."""
    if (plan is None) == (not yes):
        refuse("name a plan with --plan, or say --yes", USAGE)
    how = f"--plan={plan}" if plan is not None else "--yes"
    flags = _flags(
        label=f"--label={label}" if label else "",
        verify_only="--verify-only" if verify_only else "",
        json="--json" if as_json else "",
    )
    _run("apply", how, _by(by), *flags, path=path)


@app.command()
def activate(
    version: VersionArgument, *, reason: ReasonOption, by: ByOption = None, as_json: JsonOption = False
) -> None:
    """Make a registered version the active one. Applying a file that is registered does not undo it."""
    _decide("activate", version, reason, by, as_json=as_json)


@app.command()
def off(name: NameArgument, *, reason: ReasonOption, by: ByOption = None, as_json: JsonOption = False) -> None:
    """Make no version active: events are stored, and make no rows."""
    _decide("off", name, reason, by, as_json=as_json)


@app.command()
def hold(name: NameArgument, *, reason: ReasonOption, by: ByOption = None, as_json: JsonOption = False) -> None:
    """Keep the events of a pipeline, and process them later."""
    _decide("hold", name, reason, by, as_json=as_json)


@app.command()
def resume(name: NameArgument, *, reason: ReasonOption, by: ByOption = None, as_json: JsonOption = False) -> None:
    """Process the events of a pipeline again, those that were kept first."""
    _decide("resume", name, reason, by, as_json=as_json)


@app.command("list")
def list_versions(*, as_json: JsonOption = False) -> None:
    """List the registered pipelines: what is active, pinned or held."""
    _run("list", *_flags(json="--json" if as_json else ""))


@app.command()
def show(
    version: Annotated[str, typer.Argument(metavar="NAME[@N]", help="A pipeline; else its active version.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Show the files of a version."""
    _run("show", *_flags(json="--json" if as_json else ""), version)


def _decide(what: str, subject: str, reason: str, by: str | None, *, as_json: bool) -> None:
    _run(what, f"--reason={reason}", _by(by), *_flags(json="--json" if as_json else ""), "--", subject)


def _by(given: str | None) -> str:
    """Return the flag that says who decides: in a container the user would be another one."""
    return f"--by={given or getpass.getuser()}"


def _flags(**flags: str) -> Sequence[str]:
    return [flag for flag in flags.values() if flag]


def _run(*arguments: str, path: Path | None = None) -> None:
    """Run the one-shot, and end with its exit code."""
    if path is not None and not path.exists():
        refuse(f"{path}: there is no such file or folder", USAGE)
    _, _, stack = require_stack()
    try:
        code = stack.run_pipelines(*arguments, path=path)
    except StackError as error:
        refuse(str(error), error.exit_code)
    raise typer.Exit(code if code in _EXIT_CODES else ERROR)
