"""The file channel: one large file, from the moment it appears in the inbox until its last row is queryable."""

import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.measuring import REALISTIC, Bench, Line, Sample, require_exact, run_tool, store_limit
from benchmarks.payloads import CSV_HEADER, CSV_SIZE, TEMPLATES, body, csv_line

_SECONDS_MAX = 900.0
_PORTION_ROWS = 10_000
# Characters that no JSON text holds: every line is one column.
_ONE_COLUMN = r"format csv, delimiter e'\x02', quote e'\x01'"


def _lines(size: str, rows: int) -> Iterator[bytes]:
    if size == CSV_SIZE:
        yield CSV_HEADER.encode() + b"\n"
    for first in range(1, rows + 1, _PORTION_ROWS):
        numbers = range(first, min(first + _PORTION_ROWS, rows + 1))
        made = (csv_line(number) if size == CSV_SIZE else body(size, number) for number in numbers)
        yield b"\n".join(made) + b"\n"


def _file(bench: Bench, size: str) -> Path:
    """Return the file, which is written once for all rounds."""
    path = bench.folder / (f"rows-{bench.rows}.csv" if size == CSV_SIZE else f"rows-{size}-{bench.rows}.ndjson")
    if not path.exists():
        with path.open("wb") as file:
            file.writelines(_lines(size, bench.rows))
    return path


async def measure_file(bench: Bench, source: str, *, size: str) -> Sample:
    """Drop a file, and wait until its last row can be queried; the ledger must hold exactly its rows afterwards."""
    path = _file(bench, size)
    inbox = bench.system.stack.inbox / source
    inbox.mkdir(parents=True)
    unfinished = inbox / f".{path.name}"
    shutil.copyfile(path, unfinished)
    with bench.timed():
        began = time.perf_counter()
        unfinished.rename(inbox / path.name)
        ended = await bench.ledger.wait_for(bench.rows, source, seconds_max=_SECONDS_MAX)
    if size == CSV_SIZE:
        found = await bench.ledger.find_rows(source, bench.rows)
    else:
        found = await bench.ledger.find(source, size, bench.rows)
    require_exact(found, bench.rows)
    return Sample(bench.rows, bench.rows / (ended - began))


async def _psql(bench: Bench, *commands: str) -> str:
    arguments = [argument for command in commands for argument in ("--command", command)]
    return await run_tool("psql", "--no-psqlrc", "--quiet", "--tuples-only", *arguments, bench.system.owner_url)


async def _psql_copy(bench: Bench, _source: str, *, size: str) -> Sample:
    r"""`psql \copy` of the same file into a table of its own, without identity, index or record."""
    path = _file(bench, size)
    columns = ", ".join(f"{name} text" for name in CSV_HEADER.split(",")) if size == CSV_SIZE else "line text"
    options = "format csv, header" if size == CSV_SIZE else _ONE_COLUMN
    await _psql(bench, f"CREATE TABLE bench_copy ({columns})")
    try:
        began = time.perf_counter()
        await _psql(bench, f"\\copy bench_copy from '{path}' with ({options})")
        return Sample(bench.rows, bench.rows / (time.perf_counter() - began))
    finally:
        await _psql(bench, "DROP TABLE bench_copy")


def file_lines() -> list[Line]:
    """Return the lines of the file channel."""
    peers = {} if shutil.which("psql") is None else {"psql \\copy of the same file": _psql_copy}
    return [
        Line(
            case="file",
            title="file, CSV" if size == CSV_SIZE else "file, NDJSON",
            size=size,
            measure=partial(measure_file, size=size),
            beside="COPY of the same rows",
            limit=partial(store_limit, size=size),
            peers={name: partial(measure, size=size) for name, measure in peers.items()},
            ratio_min=0.5,
        )
        for size in (REALISTIC, *(size for size in TEMPLATES if size != REALISTIC), CSV_SIZE)
    ]
