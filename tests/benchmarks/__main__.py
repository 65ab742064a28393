"""Measures each case beside its limit: `make bench CASES=http,grpc ROUNDS=3 EVENTS=100000`."""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
from rich.console import Console

from benchmarks.file_cases import file_lines
from benchmarks.grpc_cases import grpc_lines
from benchmarks.http_cases import bare_endpoint_rate, http_lines
from benchmarks.ledger import Ledger
from benchmarks.measuring import Bench, Line, grown, only_ratio, run_case, run_line
from benchmarks.pipeline_cases import pipeline_lines, processor_memory
from benchmarks.queue_cases import queue_lines
from benchmarks.record import missed, record_of, save, show, show_progress
from benchmarks.servers import HTTP_CPU
from benchmarks.standing import Reading, standing_readings
from benchmarks.system import System, found_system, running_system
from etlpay_cli.local import packages
from support.run_records import write
from support.servers import CHECKOUT

_PACKAGES = {"wrk": "wrk", "psql": "postgresql-client"}
"""What measures beside the system, by program: the package that brings it."""
_FAST_MACHINE_RATE = 20_000
"""Where the bare endpoint answers fewer requests a second, only ratios are judged."""


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
    parser.add_argument("--record", action="store_true", help="write the run into docs/records and docs/benchmarks.md")
    return parser.parse_args(words)


def chosen(arguments: argparse.Namespace) -> list[Line]:
    """Return the lines that were asked for."""
    cases = set(filter(None, arguments.cases.split(",")))
    sizes = set(filter(None, arguments.payloads.split(",")))
    lines = [*http_lines(), *grpc_lines(), *file_lines(), *queue_lines(), *pipeline_lines()]
    return [line for line in lines if (not cases or line.case in cases) and (not sizes or line.size in sizes)]


def install_missing(console: Console) -> None:
    """Install the programs that this machine lacks, as `etlpay up` installs RabbitMQ. Exits where it cannot."""
    for program, package in _PACKAGES.items():
        if shutil.which(program) is None:
            console.print(f"installing {package} with the system's package manager")
            try:
                packages.install(package)
            except packages.NotInstalledError as error:
                sys.exit(str(error))


async def run(
    system: System, lines: list[Line], arguments: argparse.Namespace, console: Console
) -> tuple[list[Line], list[Reading], dict[str, str]]:
    """Measure; return the lines, the readings of the system as it stands, and more facts of the machine."""
    ledger = await Ledger.connect(system.owner_url)
    with tempfile.TemporaryDirectory(dir=system.stack.root) as folder, console.status("") as status:
        bench = Bench(system, ledger, arguments.events, arguments.rows, arguments.seconds, Path(folder))
        status.update("measuring the bare endpoint")
        bare_rate = await bare_endpoint_rate(bench)
        if slow := bare_rate < _FAST_MACHINE_RATE:
            lines = [only_ratio(line) for line in lines]
        sizes = [int(size) for size in arguments.growth.split(",") if size]
        measured = []
        async for line in _measure(bench, lines, sizes, arguments.rounds, status.update):
            show_progress(console, line)
            measured.append(line)
        status.update("asking, and resting")
        await ledger.settle()
        readings = await standing_readings(system, ledger)
        if slow:
            readings = [msgspec.structs.replace(each, most=None) for each in readings]
    readings += processor_memory(measured)
    facts = {"PostgreSQL": await ledger.server_version(), "bare endpoint": f"{bare_rate:,.0f} requests/s"}
    await ledger.close()
    return measured, readings, facts


async def _measure(
    bench: Bench, lines: list[Line], sizes: list[int], rounds: int, show_status: Callable[[str], None]
) -> AsyncIterator[Line]:
    """Yield each line once it is measured beside its limit; with `sizes`, on ledgers so large beside the empty one."""
    for line in lines:
        if sizes:
            await run_case(bench, line, rounds, show_status)
        else:
            await run_line(bench, line, rounds, show_status)
            yield line
    for size in sizes:
        show_status(f"storing {size:,} events")
        await bench.ledger.fill(size - await bench.ledger.events())
        for line in lines:
            await run_case(bench, larger := grown(line, size), rounds, show_status)
            yield larger


def main() -> int:
    """Measure, show, write; return 1 where a figure is missed."""
    words = sys.argv[1:]
    arguments = parse(words)
    console = Console(stderr=False)
    install_missing(console)
    with found_system(arguments.root) if arguments.root else running_system(ETLPAY_HTTP_CPU=str(HTTP_CPU)) as system:
        lines, readings, facts = asyncio.run(run(system, chosen(arguments), arguments, console))
    whole = not arguments.growth and len(lines) == len(chosen(parse([])))
    said = " ".join(word for word in words if word != "--record")
    record = record_of(lines, readings, arguments=said, facts=facts, whole=whole)
    show(console, record)
    write(arguments.json, record)
    if arguments.record:
        save(record)
    if figures := missed(record):
        console.print(f"{len(figures)} of {len(lines) + len(readings)} figures are missed")
    return 1 if figures else 0


if __name__ == "__main__":
    sys.exit(main())
