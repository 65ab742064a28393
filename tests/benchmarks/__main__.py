"""Measures each case beside its limit: `make bench CASES=http,grpc ROUNDS=3 EVENTS=100000`."""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from rich.console import Console

from benchmarks import report
from benchmarks.file_cases import file_lines
from benchmarks.grpc_cases import grpc_lines
from benchmarks.http_cases import http_lines
from benchmarks.ledger import Ledger
from benchmarks.measuring import Bench, Line, grown, run_case, run_line
from benchmarks.queue_cases import queue_lines
from benchmarks.servers import HTTP_CPU
from benchmarks.standing import Reading, standing_readings
from benchmarks.system import System, found_system, running_system
from support.servers import CHECKOUT

_PAGE = CHECKOUT / "docs" / "benchmarks.md"
_CHART = CHECKOUT / "docs" / "benchmarks.svg"


def parse(words: list[str]) -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--cases", default="", help="names, separated by commas; empty: all")
    parser.add_argument("--payloads", default="", help="sizes, separated by commas; empty: all")
    parser.add_argument("--rounds", type=int, default=3, help="how often each line is measured")
    parser.add_argument("--events", type=int, default=100_000, help="events of a measurement")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of a file")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long wrk sends")
    parser.add_argument("--growth", default="", help="measure each case on the empty ledger, then with so many stored")
    parser.add_argument("--json", type=Path, default=CHECKOUT / ".benchmarks" / "latest.json", help="where JSON goes")
    parser.add_argument("--root", type=Path, help="measure the local stack that runs there, instead of one of its own")
    parser.add_argument("--record", action="store_true", help="append to docs/benchmarks.md and draw its chart")
    return parser.parse_args(words)


def chosen(arguments: argparse.Namespace) -> list[Line]:
    """Return the lines that were asked for."""
    cases = set(filter(None, arguments.cases.split(",")))
    sizes = set(filter(None, arguments.payloads.split(",")))
    lines = [*http_lines(), *grpc_lines(), *file_lines(), *queue_lines()]
    return [line for line in lines if (not cases or line.case in cases) and (not sizes or line.size in sizes)]


def http_cases() -> set[str]:
    """Return the cases that wrk measures."""
    return {line.case for line in http_lines()}


async def run(
    system: System, lines: list[Line], arguments: argparse.Namespace, console: Console
) -> tuple[list[Line], list[Reading], dict[str, str]]:
    """Measure; return the lines, the readings of the system as it stands, and the versions of the servers."""
    ledger = await Ledger.connect(system.owner_url)
    with tempfile.TemporaryDirectory(dir=system.stack.root) as folder, console.status("") as status:
        bench = Bench(system, ledger, arguments.events, arguments.rows, arguments.seconds, Path(folder))
        sizes = [int(size) for size in arguments.growth.split(",") if size]
        measured = []
        async for line in _measure(bench, lines, sizes, arguments.rounds, status.update):
            report.show_progress(console, line)
            measured.append(line)
        status.update("asking, and resting")
        await ledger.settle()
        readings = await standing_readings(system, ledger)
    servers = {"PostgreSQL": await ledger.server_version()}
    await ledger.close()
    return measured, readings, servers


async def _measure(
    bench: Bench, lines: list[Line], sizes: list[int], rounds: int, tell: Callable[[str], None]
) -> AsyncIterator[Line]:
    """Yield each line once it is measured beside its limit; with `sizes`, on ledgers so large beside the empty one."""
    for line in lines:
        if sizes:
            await run_case(bench, line, rounds, tell)
        else:
            await run_line(bench, line, rounds, tell)
            yield line
    for size in sizes:
        tell(f"storing {size:,} events")
        await bench.ledger.fill(size - await bench.ledger.events())
        for line in lines:
            await run_case(bench, larger := grown(line, size), rounds, tell)
            yield larger


def main() -> int:
    """Measure, show, write; return 1 where a line is under its figure."""
    words = sys.argv[1:]
    arguments = parse(words)
    console = Console(stderr=False)
    if shutil.which("wrk") is None and any(line.case in http_cases() for line in chosen(arguments)):
        sys.exit("HTTP is measured with wrk, which is not here: apt-get install wrk, or choose other CASES=")
    with found_system(arguments.root) if arguments.root else running_system(ETLPAY_HTTP_CPU=str(HTTP_CPU)) as system:
        lines, readings, servers = asyncio.run(run(system, chosen(arguments), arguments, console))
    report.show(console, lines, readings)
    said = " ".join(word for word in words if word != "--record")
    arguments.json.parent.mkdir(exist_ok=True)
    report.write_json(arguments.json, lines, readings, said, servers)
    if arguments.record:
        report.append_page(_PAGE, lines, readings, said, servers)
        # The chart shows everything or nothing: a part of the cases would take the others' place.
        if not arguments.growth and len(lines) == len(chosen(parse([]))):
            report.draw(_CHART, lines)
    missed = [line.title for line in lines if line.misses()] + [each.title for each in readings if each.missed]
    if missed:
        console.print(f"{len(missed)} of {len(lines) + len(readings)} figures are missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
