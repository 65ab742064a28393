"""The HTTP channel: single events over 64 connections and over one, and batches."""

import os
import re
from functools import partial

from benchmarks.measuring import REALISTIC, Bench, Line, Sample, generate, require_exact, run_tool, store_limit
from benchmarks.payloads import TEMPLATES
from benchmarks.servers import peer

_CONNECTIONS = 64
# Within two minutes one stack answered 6,680 to 9,612 requests a second, in 14 measurements of 4 s.
_TURNS = 3
_BATCH_EVENTS = 10_000
_BATCH_CONNECTIONS = 2
_INSERTS = 500
_NUMBERS_PER_THREAD = 100_000_000
_SUMMARY = re.compile(
    r"answered (?P<answered>\d+) in (?P<us>\d+) us, refused (?P<refused>\d+), broken (?P<broken>\d+),"
    r" p50 (?P<p50>\d+) us, p99 (?P<p99>\d+) us"
)


async def _singles(bench: Bench, source: str, *, url: str, size: str, connections: int) -> tuple[Sample, int]:
    """Post single events for a while; return the sample and how many requests were made."""
    template = bench.folder / f"{size}.json"
    template.write_text(TEMPLATES[size])
    printed = await run_tool(
        "wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{bench.seconds:.0f}s",
        "--script", "benchmarks/http.lua", url,
        environment=os.environ | {"SOURCE": source, "TEMPLATE": str(template)},  # noqa: TID251 - a child's environment
    )  # fmt: skip
    summary = _SUMMARY.search(printed)
    if summary is None or int(summary["refused"]) or int(summary["broken"]):
        raise RuntimeError(f"wrk: {printed[-500:]}")
    answered, us, p50_us, p99_us = (int(summary[name]) for name in ("answered", "us", "p50", "p99"))
    sample = Sample(answered, answered / us * 1e6, p50_us / 1000, p99_us / 1000)
    return sample, sum(map(int, re.findall(r"^made (\d+)$", printed, re.MULTILINE)))


async def _measure_singles(bench: Bench, source: str, *, size: str, connections: int) -> Sample:
    with bench.timed():
        sample, made = await _singles(bench, source, url=bench.system.stack.http, size=size, connections=connections)
    found = await bench.ledger.find(source, size, _NUMBERS_PER_THREAD)
    # One more than there are connections: wrk makes a request beforehand to see what the script returns.
    require_exact(found, made, in_flight_max=connections + 1)
    return sample


async def _bare_endpoint(bench: Bench, source: str, *, size: str, connections: int) -> Sample:
    with peer("asgi") as port:
        url = f"http://127.0.0.1:{port}"
        return (await _singles(bench, source, url=url, size=size, connections=connections))[0]


async def bare_endpoint_rate(bench: Bench) -> float:
    """Return how many requests a second the bare endpoint answers on this machine."""
    return (await _bare_endpoint(bench, "bare", size=REALISTIC, connections=_CONNECTIONS)).rate


async def _bare_insert(bench: Bench, _source: str) -> Sample:
    latencies = sorted(await bench.ledger.insert_latency_ms(_INSERTS))
    middle, late = latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100]
    return Sample(_INSERTS, 1000 * len(latencies) / sum(latencies), middle, late)


async def measure_batches(bench: Bench, source: str, *, size: str) -> Sample:
    """Post events in batches over two connections; the ledger must hold exactly these afterwards."""
    per_request = min(_BATCH_EVENTS, bench.events)
    with bench.timed():
        sample = await generate(
            "generate_batches", bench.system.stack.http, source, size, bench.events, per_request, _BATCH_CONNECTIONS
        )
    require_exact(await bench.ledger.find(source, size, bench.events), bench.events)
    return sample


def http_lines() -> list[Line]:
    """Return the lines of the HTTP channel."""
    lines = []
    for size in TEMPLATES:
        realistic = size == REALISTIC
        many = partial(_measure_singles, size=size, connections=_CONNECTIONS)
        lines.append(
            Line(
                case="http",
                title="HTTP single, 64 connections",
                size=size,
                measure=many,
                beside="bare ASGI endpoint",
                limit=partial(_bare_endpoint, size=size, connections=_CONNECTIONS),
                ratio_min=0.25,
                rate_min=7_000 if realistic else None,
                p99_ms_max=40 if realistic else None,
                turns=_TURNS,
            )
        )
    lines.append(
        Line(
            case="http-one",
            title="HTTP single, one connection",
            size=REALISTIC,
            measure=partial(_measure_singles, size=REALISTIC, connections=1),
            beside="bare INSERT with commit",
            limit=_bare_insert,
            p50_ms_max=3,
        )
    )
    lines += [
        Line(
            case="http-batch",
            title="HTTP batch, NDJSON, 10,000 a request",
            size=size,
            measure=partial(measure_batches, size=size),
            beside="COPY of the same rows",
            limit=partial(store_limit, size=size),
            ratio_min=0.5,
        )
        for size in TEMPLATES
    ]
    return lines
