"""Calls the gRPC channel: `TARGET SOURCE SIZE EVENTS EVENTS_PER_BATCH IN_FLIGHT`.

Batches of one are calls of Ingest, so many in flight at once. Larger ones go over one IngestStream.
"""

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator

import grpc.aio
import msgspec
import uvloop

from benchmarks.measuring import Sample
from benchmarks.payloads import body, key
from etlpay_client import etlpay_pb2 as pb

_STORED = b"SUCCESS"


def _request(source: str, size: str, number: int) -> pb.IngestRequest:
    return pb.IngestRequest(source_name=source, payload_json=body(size, number).decode(), id=key(number))


async def call_all(channel: grpc.aio.Channel, requests: list[bytes], in_flight: int) -> Sample:
    """Send each request as a call of its own."""
    ingest: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/etlpay.EtlService/Ingest")
    left = iter(requests)
    latencies: list[float] = []

    async def call() -> None:
        for request in left:
            began = time.perf_counter()
            if _STORED not in await ingest(request, timeout=30):
                raise RuntimeError("an event was not stored")
            latencies.append((time.perf_counter() - began) * 1000)

    began, used = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(call())
    seconds = time.perf_counter() - began
    ranked = sorted(latencies)
    middle, late = ranked[len(ranked) // 2], ranked[len(ranked) * 99 // 100]
    return Sample(len(requests), len(requests) / seconds, middle, late, time.process_time() - used)


async def stream_all(channel: grpc.aio.Channel, batches: list[bytes], events: int) -> Sample:
    """Send each request as a batch of one stream."""
    began, used = time.perf_counter(), time.process_time()
    method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream("/etlpay.EtlService/IngestStream")
    stream = method()
    answered = 0

    async def write() -> None:
        for batch in batches:
            await stream.write(batch)
        await stream.done_writing()

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        async for answer in stream:
            answered += answer.count(_STORED)
    seconds = time.perf_counter() - began
    if answered != events:
        raise RuntimeError(f"{answered} of {events} events were stored")
    return Sample(events, events / seconds, generator_seconds=time.process_time() - used)


def _batches(source: str, size: str, events: int, per_batch: int) -> Iterator[bytes]:
    numbers = iter(range(1, events + 1))
    while batch := list(itertools.islice(numbers, per_batch)):
        requests = [_request(source, size, number) for number in batch]
        yield pb.IngestBatchRequest(requests=requests).SerializeToString()


async def run(words: list[str]) -> Sample:
    """Prepare every request, then send them."""
    target, source, size, *numbers = words
    events, per_batch, in_flight = map(int, numbers)
    async with grpc.aio.insecure_channel(target) as channel:
        await channel.channel_ready()
        if per_batch == 1:
            requests = [_request(source, size, number).SerializeToString() for number in range(1, events + 1)]
            return await call_all(channel, requests, in_flight)
        return await stream_all(channel, list(_batches(source, size, events, per_batch)), events)


def main() -> None:
    """Print the sample."""
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(run(sys.argv[1:]))))


if __name__ == "__main__":
    main()
