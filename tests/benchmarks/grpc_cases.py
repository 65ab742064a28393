"""The gRPC channel: single calls, and a stream of batches."""

from functools import partial

from benchmarks.measuring import Bench, Line, Sample, generate, require_exact, store_limit
from benchmarks.payloads import TEMPLATES
from benchmarks.servers import peer

_IN_FLIGHT = 64
_BATCH_EVENTS = 500
# A single call costs some hundred times what an event of a batch does.
_CALLS_PER_EVENT = 0.2


async def _calls(target: str, source: str, size: str, calls: int) -> Sample:
    return await generate("generate_calls", target, source, size, calls, 1, _IN_FLIGHT)


async def _measure_calls(bench: Bench, source: str, *, size: str) -> Sample:
    calls = int(bench.events * _CALLS_PER_EVENT)
    with bench.timed():
        sample = await _calls(bench.system.stack.grpc, source, size, calls)
    require_exact(await bench.ledger.find(source, size, calls), calls)
    return sample


async def _empty_servicer(bench: Bench, source: str, *, size: str) -> Sample:
    with peer("grpc") as port:
        return await _calls(f"127.0.0.1:{port}", source, size, int(bench.events * _CALLS_PER_EVENT))


async def _measure_stream(bench: Bench, source: str, *, size: str) -> Sample:
    with bench.timed():
        sample = await generate("generate_calls", bench.system.stack.grpc, source, size, bench.events, _BATCH_EVENTS, 0)
    require_exact(await bench.ledger.find(source, size, bench.events), bench.events)
    return sample


def grpc_lines() -> list[Line]:
    """Return the lines of the gRPC channel."""
    calls = [
        Line(
            case="grpc",
            title="gRPC Ingest, 64 in flight",
            size=size,
            measure=partial(_measure_calls, size=size),
            beside="empty servicer",
            limit=partial(_empty_servicer, size=size),
            ratio_min=0.6,
        )
        for size in TEMPLATES
    ]
    streams = [
        Line(
            case="grpc-stream",
            title="gRPC IngestStream, batches of 500",
            size=size,
            measure=partial(_measure_stream, size=size),
            beside="COPY of the same rows",
            limit=partial(store_limit, size=size),
            ratio_min=0.5,
        )
        for size in TEMPLATES
    ]
    return calls + streams
