"""`etlpay pipeline drift`: shows what the events of pipelines hold that no version reads."""

from __future__ import annotations

from typing import Annotated

import typer

from etlpay_cli import console
from etlpay_cli.commands.invocation import LimitOption, ask, moment_before
from etlpay_cli.commands.pipeline import JsonOption
from etlpay_cli.commands.pipeline_versions import app
from shared.contracts.drift import DriftReport

__all__ = ["app"]


@app.command()
def drift(
    name: Annotated[str | None, typer.Argument(help="The name of a pipeline; else all of them.")] = None,
    *,
    since: Annotated[str, typer.Option(help="How far back, such as 24h or 7d.")] = "7d",
    limit: LimitOption = 100,
    as_json: JsonOption = False,
) -> None:
    """Show the types and members that no version reads, those of the most events first; never a value."""
    parameters: dict[str, str | int] = {"since": moment_before(since), "limit": limit}
    if name is not None:
        parameters["pipeline"] = name
    report = ask("/api/drift", parameters, DriftReport)
    if as_json:
        console.print_json(report)
        return
    console.show_table(
        ("pipeline", "what", "place", "events", "first", "last", "example"),
        [
            (
                f"{item.pipeline}@{item.version}", item.kind.replace("_", " "), item.place or "-", str(item.events),
                f"{item.first_hour:%Y-%m-%d %H:00}", f"{item.last_hour:%Y-%m-%d %H:00}", str(item.example or "-"),
            )
            for item in report.items
        ],
        numbers={"events"},
    )  # fmt: skip
    if not report.items:
        console.stderr.print("Nothing: every event was read whole.")
