"""The queue channel: messages of a foreign publisher that wait in a queue, until the last event is queryable.

The queue is filled beforehand, for us and for the bare consumer, so that the publisher costs neither anything.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import aiormq
import psutil

from benchmarks.measuring import REALISTIC, Bench, Line, Sample, generate, require_exact, store_limit
from benchmarks.payloads import TEMPLATES

_SECONDS_MAX = 300.0
_POLL_SECONDS = 0.005
_MESSAGE_EVENTS = 500


async def _fill(bench: Bench, queue: str, source: str, size: str, per_message: int) -> None:
    await generate("generate_messages", bench.system.operator_url, queue, source, size, bench.events, per_message)


async def _bare_consumer(bench: Bench, source: str, *, size: str) -> Sample:
    """A bare aiormq consumer that acks."""
    await _fill(bench, source, source, size, 1)
    return await generate("bare_consumer", bench.system.operator_url, source, bench.events)


async def _measure(bench: Bench, source: str, *, size: str, per_message: int) -> Sample:
    await _fill(bench, source, source, size, per_message)
    with _consumer_of(bench, source):
        began = await _consumed_since(bench, source)
        with bench.timed():
            ended = await bench.ledger.wait_for(bench.events, source, seconds_max=_SECONDS_MAX)
        require_exact(await bench.ledger.find(source, size, bench.events), bench.events)
    await _delete(bench, source)
    return Sample(bench.events, bench.events / (ended - began))


@contextmanager
def _consumer_of(bench: Bench, queue: str) -> Iterator[None]:
    """Run one more queue-consumer, for a queue of this measurement alone."""
    system = bench.system
    environment = psutil.Process(system.pid("queue-consumer")).environ()
    own = {"ETLPAY_QUEUE": queue, "ETLPAY_OPS_PORT": "0"}
    # The service's own broker user may read its own queue only.
    for prefix in ("ETLPAY_AMQP", "ETLPAY_QUEUE_AMQP"):
        if address := environment.get(f"{prefix}_URL"):
            own[f"{prefix}_URL"] = address.replace("//queue-consumer@", "//operator@")
            own[f"{prefix}_PASSWORD"] = system.operator_password
            environment.pop(f"{prefix}_PASSWORD_FILE", None)
    process = subprocess.Popen(
        (sys.executable, "-m", "queue_consumer"), env=environment | own, cwd=bench.folder, stderr=subprocess.DEVNULL
    )
    system.watch("queue-consumer of the benchmark", process.pid)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


async def _consumed_since(bench: Bench, queue: str) -> float:
    """Return the time (perf_counter) at which somebody began to consume."""
    deadline = time.perf_counter() + _SECONDS_MAX
    connection = await aiormq.connect(bench.system.operator_url)
    try:
        channel = await connection.channel()
        while not (await channel.queue_declare(queue, passive=True)).consumer_count:
            if time.perf_counter() > deadline:
                raise TimeoutError("nobody consumes")
            await asyncio.sleep(_POLL_SECONDS)
        return time.perf_counter()
    finally:
        await connection.close()


async def _delete(bench: Bench, queue: str) -> None:
    connection = await aiormq.connect(bench.system.operator_url)
    channel = await connection.channel()
    await channel.queue_delete(queue)
    await connection.close()


def queue_lines() -> list[Line]:
    """Return the lines of the queue channel."""
    singles = Line(
        case="queue",
        title="queue, single JSON messages",
        size=REALISTIC,
        measure=partial(_measure, size=REALISTIC, per_message=1),
        beside="bare aiormq consumer that acks",
        limit=partial(_bare_consumer, size=REALISTIC),
        ratio_min=0.6,
    )
    batches = [
        Line(
            case="queue-batch",
            title="queue, NDJSON messages of 500",
            size=size,
            measure=partial(_measure, size=size, per_message=_MESSAGE_EVENTS),
            beside="COPY of the same rows",
            limit=partial(store_limit, size=size),
            ratio_min=0.5,
        )
        for size in TEMPLATES
    ]
    return [singles, *batches]
