"""Sources with a pipeline beside the same case without one, in the same round: what typed rows cost."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path

import asyncpg

from benchmarks.file_cases import measure_file
from benchmarks.http_cases import measure_batches
from benchmarks.measuring import REALISTIC, Bench, Line, Lost, Measure, Sample
from benchmarks.payloads import CSV_SIZE, HOT, HOT_KEY_SQL, NUMBER_DIGITS, PAYMENT_PREFIX, TYPED
from benchmarks.standing import Reading
from support.stack import until

_PIPELINES = Path(__file__).resolve().parent / "pipelines"
_PREFIXES = ("typed-append-", "typed-latest-", "typed-csv-")
_PROCESSOR_MIB_MAX = 150
_UNPROCESSABLE = 422


@dataclass(frozen=True)
class _Wanted:
    """The rows that a table must hold after events numbered from 1, in SQL about the newest event `n` of each key."""

    table: str
    prefix: str
    key: str
    amount: str
    newest: str


_PAYMENT = ("(1000000000 + n)::numeric / 100", "as_of = to_timestamp(1000000000 + n)")
_APPEND = _Wanted("rows.bench_events_1", PAYMENT_PREFIX, "n", *_PAYMENT)
_LATEST = _Wanted("rows.bench_payments_1", PAYMENT_PREFIX, "n", *_PAYMENT)
_HOT = _Wanted("rows.bench_payments_1", PAYMENT_PREFIX, HOT_KEY_SQL, *_PAYMENT)
_CSV = _Wanted("rows.bench_rows_1", "evt_", "n", "1099.00", "true")


@dataclass(frozen=True)
class _TypedFound:
    """What a table holds, and must hold; `exact`: of its keys those with the row of their newest event."""

    rows: int
    wanted: int
    exact: int
    total: Decimal
    wanted_total: Decimal


async def _measure_typed(bench: Bench, source: str, *, measure: Measure, prefix: str, wanted: _Wanted) -> Sample:
    """Measure a case on a source with a pipeline; its table must hold exactly the rows of its events afterwards."""
    await _run_pipelines(bench)
    connection = await asyncpg.connect(bench.system.owner_url, timeout=10)
    try:
        await connection.execute(f"TRUNCATE {wanted.table}")
        sample = await measure(bench, f"{prefix}{source}")
        found = await _find_typed(connection, wanted, sample.events)
    finally:
        await connection.close()
    if not (found.rows == found.wanted == found.exact and found.total == found.wanted_total):
        raise Lost(f"sent {sample.events}, found in {wanted.table}: {found}")
    return sample


async def _measure_plain(bench: Bench, source: str, *, measure: Measure) -> Sample:
    """Measure the same case on a source without a pipeline, beside pipelines that run."""
    await _run_pipelines(bench)
    return await measure(bench, f"plain-{source}")


async def _find_typed(connection: asyncpg.Connection, wanted: _Wanted, events: int) -> _TypedFound:
    query = f"""
        WITH wanted AS MATERIALIZED (
            SELECT '{wanted.prefix}' || lpad(key::text, {NUMBER_DIGITS}, '0') AS payment, max(n) AS n
            FROM (SELECT n, {wanted.key} AS key FROM generate_series(1, $1::int) AS numbers (n)) AS sent GROUP BY key)
        SELECT (SELECT count(*) FROM {wanted.table}) AS rows, (SELECT count(*) FROM wanted) AS wanted,
               (SELECT count(*) FROM wanted JOIN {wanted.table} AS made USING (payment)
                WHERE made.amount = {wanted.amount} AND {wanted.newest}) AS exact,
               (SELECT coalesce(sum(amount), 0) FROM {wanted.table}) AS total,
               (SELECT sum({wanted.amount}) FROM wanted) AS wanted_total
    """  # noqa: S608 - made of the constants above
    return _TypedFound(**dict(await connection.fetchrow(query, events, timeout=600)))


async def _run_pipelines(bench: Bench) -> None:
    """Apply the pipelines, unless that was done, and wait until the processor runs them."""
    connection = await asyncpg.connect(bench.system.owner_url, timeout=10)
    applied = await connection.fetchval("SELECT to_regclass($1)", _CSV.table) is not None
    await connection.close()
    if applied:
        return
    stack = bench.system.stack
    await asyncio.to_thread(stack.run_etlpay, "pipeline", "apply", str(_PIPELINES), "--yes")
    async with stack.client() as http:

        async def statuses() -> set[int]:
            # Without a pipeline an empty object is an event like any other; each of these requires something.
            documents = [{"source_name": f"{prefix}probe", "payload": {}} for prefix in _PREFIXES]
            return {(await http.post("/api/ingest", json=document)).status_code for document in documents}

        if await until(statuses, lambda found: found == {_UNPROCESSABLE}) != {_UNPROCESSABLE}:
            raise RuntimeError("the processor does not run the pipelines")


def processor_memory(lines: Sequence[Line]) -> list[Reading]:
    """Return how much memory the processor had at most in cases with a pipeline; nothing where there were none."""
    found = [line.cost.resident_mib.get("processor", 0.0) for line in lines if line.case.startswith("pipeline")]
    detail = "resident, the highest of all cases with a pipeline"
    return [Reading("processor with pipelines", max(found), _PROCESSOR_MIB_MAX, "MiB", detail)] if found else []


def pipeline_lines() -> list[Line]:
    """Return the lines of sources with a pipeline."""
    batches, hot_batches = partial(measure_batches, size=TYPED), partial(measure_batches, size=HOT)
    file = partial(measure_file, size=CSV_SIZE)
    return [
        _line("pipeline-append", "HTTP batch, 22 columns, append", batches, _APPEND, _PREFIXES[0], ratio_min=0.75),
        _line("pipeline-latest", "HTTP batch, 13 columns, latest", batches, _LATEST, _PREFIXES[1], ratio_min=0.65),
        _line("pipeline-latest", "HTTP batch, latest, hot keys", hot_batches, _HOT, _PREFIXES[1], ratio_min=0.65),
        _line("pipeline-csv", "file, CSV, 13 columns, append", file, _CSV, _PREFIXES[2], ratio_min=0.95, size=CSV_SIZE),
    ]


def _line(  # noqa: PLR0913 - what differs
    case: str, title: str, measure: Measure, wanted: _Wanted, prefix: str, *, ratio_min: float, size: str = REALISTIC
) -> Line:
    return Line(
        case=case,
        title=title,
        size=size,
        measure=partial(_measure_typed, measure=measure, prefix=prefix, wanted=wanted),
        beside="the same without a pipeline",
        limit=partial(_measure_plain, measure=measure),
        ratio_min=ratio_min,
    )
