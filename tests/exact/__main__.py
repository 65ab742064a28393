"""Sends many events of the examples, and compares sums by currency to the last digit: `make exact EVENTS=1000000`.

Exit code 0: every view shows just what was sent; 1: one does not; 2: there is no such example.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import asyncpg

from benchmarks.system import System, running_system
from exact.csv_examples import EXAMPLES as CSV
from exact.json_examples import EXAMPLES as JSON
from exact.sending import Sender, apply_examples
from exact.totals import Example
from support.servers import CHECKOUT

EXAMPLES: Final = {example.name: example for example in (*JSON, *CSV)}
FORMATS: Final = Path(__file__).resolve().parent / "formats.toml"


async def compare(system: System, examples: Sequence[Example], *, events: int, seed: int = 1) -> dict[str, list[str]]:
    """Send so many events of each example; return what its views show otherwise, by its name. Prints as it goes."""
    await apply_examples(system, CHECKOUT / "pipelines" / "examples")
    owner = await asyncpg.connect(system.owner_url, timeout=10, command_timeout=600)
    try:
        async with system.stack.client() as http:
            sender = Sender(system, owner, http)
            return {example.name: await _compare_one(sender, owner, example, events, seed) for example in examples}
    finally:
        await owner.close()


async def _compare_one(
    sender: Sender, owner: asyncpg.Connection, example: Example, events: int, seed: int
) -> list[str]:
    began = time.perf_counter()
    totals = await sender.send(example, events, seed=seed)
    seconds = time.perf_counter() - began
    found = await totals.differences(owner)
    rows = ", ".join(f"{view} {number:,}" for view, number in totals.rows.items())
    sums = sum(len(of_currency) for of_currency in totals.sums.values())
    _print(f"{example.name}: {seconds:.0f} s, rows: {rows}; {sums} sums compared, {len(found)} differences")
    for difference in found:
        _print(f"    {difference}")
    return found


def main() -> int:
    """Return the exit code."""
    arguments = _parser().parse_args()
    names = arguments.examples.split(",") if arguments.examples else list(EXAMPLES)
    if unknown := [name for name in names if name not in EXAMPLES]:
        _print(f"no such example: {', '.join(unknown)}; there are {', '.join(EXAMPLES)}")
        return 2
    with running_system(ETLPAY_FILES_FORMATS_FILE=str(FORMATS)) as system:
        examples = [EXAMPLES[name] for name in names]
        found = asyncio.run(compare(system, examples, events=arguments.events, seed=arguments.seed))
    return 1 if any(found.values()) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make exact", description=__doc__)
    parser.add_argument("--examples", default="", help="names, separated by commas; empty: all")
    parser.add_argument("--events", type=int, default=10_000, help="of each example")
    parser.add_argument("--seed", type=int, default=1, help="another one makes other events")
    return parser


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a program for the terminal


if __name__ == "__main__":
    sys.exit(main())
