"""Events that do harm, and more events than there is capacity for."""

import asyncio
from dataclasses import replace
from typing import Final

import aio_pika
import grpc.aio

from etlpay_cli.provision import INGEST_VHOST
from etlpay_client import etlpay_pb2 as pb
from etlpay_client.etlpay_pb2_grpc import EtlServiceStub
from faults.harness.case import Case, Context
from faults.harness.deadlines import CLIENT_SECONDS_MAX
from faults.harness.drop import drop
from faults.harness.journal import Answer, Attempt, Sent, Version
from faults.harness.memory import watched_memory
from faults.harness.mutants import mutated
from faults.harness.producers import GrpcProducer, HttpProducer, Producer, QueueProducer
from faults.harness.world import HOST, World
from support.waiting import until_true

_POISON: Final = "kills whoever reads it"
_REFUSED: Final = "is refused by the database"
_HOT_CALLS: Final = 500
# So many in each file that some row is accepted in the same microsecond as some message.
_HOT_ROWS: Final = 1_000


async def _poison(context: Context) -> bool:
    """One message kills every processor that reads it. It is parked; the other events of its message are stored."""
    journal, world = context.load.journal, context.world
    batch = [journal.new("queue") for _ in range(21)]
    for index, sent in enumerate(batch):
        sent.key = f"item:poisoned#{index}"
        sent.first.body = journal.content()
    poison = batch[10]
    poison.first.body = journal.content(text2=_POISON)
    # One message with all of them, so that other events are before and behind the poison, and never without it.
    array = b"[" + b",".join(sent.first.body for sent in batch) + b"]"
    message = Sent(source=poison.source, key="poisoned", versions=[Version(array)])
    async with QueueProducer(context.load) as producer:
        await producer.insist([Attempt(message, message.first)])
    # It will never be stored, and that is right: what must be is looked at below.
    journal.events.remove(poison)
    for sent in batch:
        journal.learn(Attempt(sent, sent.first), Answer.ACCEPTED)
    poison_body = poison.first.body
    parked: list[bytes] = []

    async def is_parked() -> bool:
        parked.extend(await _take_parked(world))
        return any(poison_body in body for body in parked)

    if not await until_true(is_parked, 400):
        context.problems.append("the poison did not end among the parked messages")
    return len(context.child("processor").exits) > 2


async def _take_parked(world: World) -> list[bytes]:
    try:
        connection = await aio_pika.connect(world.amqp_url("operator", INGEST_VHOST))
        async with connection, connection.channel() as amqp_channel:
            queue = await amqp_channel.get_queue("etlpay.parked")
            bodies = []
            while (message := await queue.get(fail=False)) is not None:
                bodies.append(message.body)
                await message.ack()
            return bodies
    except (OSError, aio_pika.exceptions.AMQPError):
        return []


async def _poisonable(world: World) -> None:
    child = world.children["processor"]
    program = mutated(child.program, "poison")
    child.always(replace(program, environment={**program.environment, "FAULTS_POISON": _POISON}))
    await child.terminate()
    await child.wait_ready()


async def _plain_processor(world: World) -> None:
    child = world.children["processor"]
    child.always(next(program for program in world.service_programs() if program.name == "processor"))
    await child.terminate()
    await child.wait_ready()
    await _take_parked(world)


_REFUSE: Final = f"""
    CREATE FUNCTION faults_refuse() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        IF NEW.status = 1 AND EXISTS (
            SELECT FROM raw_events
            WHERE id = NEW.raw_event_id AND position(convert_to('{_REFUSED}', 'UTF8') in body) > 0
        ) THEN
            RAISE EXCEPTION USING ERRCODE = '22000', MESSAGE = 'refused';
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER faults_refuse BEFORE INSERT ON processed_records FOR EACH ROW EXECUTE FUNCTION faults_refuse();
"""


async def _refuse_rows(world: World) -> None:
    async with world.owner() as owner:
        await owner.execute(_REFUSE)


async def _refuse_nothing(world: World) -> None:
    async with world.owner() as owner:
        await owner.execute("DROP TRIGGER faults_refuse ON processed_records; DROP FUNCTION faults_refuse()")


async def _refused_row(context: Context) -> bool:
    """Three rows in batches of 200 that the database refuses: they are kept as FAILED, the others as they are."""
    load, journal = context.load, context.load.journal
    refused_rows = []
    for number in range(3):
        batch = [journal.new("http") for _ in range(200)]
        refused = batch[context.random.randrange(200)]
        refused.first.body = journal.content(text2=_REFUSED)
        refused.becomes_failed = True
        refused_rows.append(refused)
        producer = (HttpProducer, GrpcProducer, HttpProducer)[number](load)
        async with producer:
            await producer.insist([Attempt(sent, sent.first) for sent in batch])
    # The checks require that their records are FAILED.
    return all(refused.first.answer in (Answer.STORED, Answer.ACCEPTED) for refused in refused_rows)


async def _hot_id(context: Context) -> bool:
    """One id, sent thousands of times over all channels at once, is one event."""
    load, journal = context.load, context.load.journal
    key = "the-hot-one"
    hot = Sent(source=f"{journal.source}.hot", key=key, versions=[Version(journal.content(id=key))])
    journal.events.append(hot)

    async def insist(producer: Producer) -> None:
        async with producer:
            for _ in range(_HOT_CALLS // 5):
                await asyncio.gather(*(producer.send([Attempt(hot, hot.first)]) for _ in range(5)))

    async with asyncio.TaskGroup() as group:
        for maker in (HttpProducer, GrpcProducer, QueueProducer):
            group.create_task(insist(maker(load)))
        folder = context.world.layout.files / "inbox" / hot.source
        for number in range(10):
            await asyncio.to_thread(drop, folder, f"hot-{number}.ndjson", [hot.first.body] * _HOT_ROWS)
            await asyncio.sleep(0.3)
    return hot.first.calls == 0 and hot.acknowledged


async def _flood(context: Context) -> bool:
    """Twenty times the callers, and a processor that stands still: refused with 503 or 429, and memory stays flat."""
    load = context.load
    load.pause_seconds = 0.004
    # So many callers wait for a connection of their own library, and no service can do anything about that.
    load.answer_seconds_max = load.batch_seconds_max = load.reading_seconds_max = None
    load.burst.set()
    await asyncio.sleep(2)
    async with watched_memory(context):
        await asyncio.sleep(3)
        with context.child("processor").frozen() as stands_still:
            await asyncio.sleep(6)
            stood_still = stands_still()
        await asyncio.sleep(3)
    load.burst.clear()
    return stood_still and load.journal.calls["later"] > 0


async def _vanish(context: Context) -> bool:
    """Clients that go away in the middle of their call: what they sent is stored once or not at all.

    Sent again with the same ids, over the same channel, it is stored once.
    """
    journal = context.load.journal
    over_http = [[journal.new("http") for _ in range(count)] for count in (1, 5) for _ in range(30)]
    over_grpc = [[journal.new("grpc") for _ in range(10)] for _ in range(15)]
    async with asyncio.TaskGroup() as group:
        http = group.create_task(_vanish_from_http(context, over_http))
        streams = group.create_task(_vanish_from_streams(context, over_grpc))
    for maker, calls in ((HttpProducer, over_http), (GrpcProducer, over_grpc)):
        async with maker(context.load) as producer:
            await producer.insist([Attempt(sent, sent.first) for call in calls for sent in call])
    return http.result() > 0 and streams.result() > 0


async def _vanish_from_http(context: Context, calls: list[list[Sent]]) -> int:
    """Send single events and batches as far as some byte; return how many clients went without an answer."""
    gone = 0
    for call in calls:
        documents = [
            f'{{"source_name": "{sent.source}", "id": "{sent.key}", "payload": '.encode() + sent.first.body + b"}"
            for sent in call
        ]
        body = b"\n".join(documents)
        path, kind = ("/api/ingest", "json") if len(call) == 1 else ("/api/ingest/batch", "x-ndjson")
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/{kind}\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        reader, writer = await asyncio.open_connection(HOST, context.world.ports["http"])
        # Often all of it, so that the client goes while the request is in progress.
        writer.write(head.encode() + body[: context.random.randrange(2 * len(body))])
        try:
            async with asyncio.timeout(context.random.uniform(0, 0.02)):
                await reader.read(1)
        except TimeoutError:
            gone += 1
        writer.transport.abort()
    return gone


async def _vanish_from_streams(context: Context, calls: list[list[Sent]]) -> int:
    """Begin streams, and cancel them before or after their first answer; return how many ended before their last."""
    gone = 0
    for call in calls:
        async with grpc.aio.insecure_channel(f"{HOST}:{context.world.ports['grpc']}") as channel:
            stream = EtlServiceStub(channel).IngestStream(timeout=CLIENT_SECONDS_MAX)
            try:
                for start in range(0, len(call), 2):
                    requests = [
                        pb.IngestRequest(source_name=sent.source, id=sent.key, payload_json=sent.first.body.decode())
                        for sent in call[start : start + 2]
                    ]
                    await stream.write(pb.IngestBatchRequest(requests=requests))
                await asyncio.sleep(context.random.uniform(0, 0.03))
            except grpc.aio.AioRpcError:
                continue
            gone += stream.cancel()
    return gone


CASES: Final = [
    Case("one hot id over all channels", _hot_id, smoke=True),
    Case("rows that the database refuses, in batches of 200", _refused_row, before=_refuse_rows, after=_refuse_nothing),
    Case("clients that vanish", _vanish),
    # A crowd of thousands still waits when the flood ends, and all of it is answered before that counts as over.
    Case("flood of twenty times the callers", _flood, drain_seconds_max=120.0),
    Case(
        "poison message that kills the processor",
        _poison,
        channels=frozenset({"file"}),
        before=_poisonable,
        after=_plain_processor,
        seconds_max=480.0,
        parked=1,
    ),
]
