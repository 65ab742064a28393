"""Cases in which the product is broken on purpose: the checks must fail."""

from collections.abc import Awaitable, Callable
from typing import Final

import aio_pika

from etlpay_cli.provision import INGEST_VHOST
from etlpay_cli.reconcile import reconcile
from faults.cases.services import came_true
from faults.cases.uploads import MID_FILE, NO_FILES, appended, kill, repacked
from faults.harness.case import Case, Context
from faults.harness.checks import Sign
from faults.harness.mutants import mutated, net
from faults.harness.world import World

_DRAIN_SECONDS_MAX: Final = 10.0
_RECEIPT_SECONDS: Final = "5"
_LOST: Final = 5
_CHOOSE_LOST: Final = """
    SELECT raw.id FROM raw_events AS raw JOIN ingestion_sources AS source ON source.id = raw.source_id
    WHERE raw.idempotency_key = ANY($1::text[]) AND source.name = $2
      AND NOT EXISTS (SELECT FROM conflicts WHERE conflicts.raw_event_id = raw.id)
    ORDER BY raw.received_at LIMIT $3
"""


def _mutate(name: str, prepare: str = "", *, service: str = "processor") -> Callable[[World], Awaitable[None]]:
    async def before(world: World) -> None:
        if prepare:
            async with world.owner() as owner:
                await owner.execute(prepare)
        child = world.children[service]
        child.always(mutated(child.program, name))
        await child.terminate()
        await child.wait_ready()

    return before


async def _repair(world: World) -> None:
    """Remove the mutant, and everything that it stored."""
    child = world.children["processor"]
    child.always(next(program for program in world.service_programs() if program.name == "processor"))
    connection = await aio_pika.connect(world.amqp_url("operator", INGEST_VHOST))
    async with world.owner() as owner, connection, connection.channel() as amqp_channel:
        await child.terminate()
        for queue in ("etlpay.ingest", "etlpay.ingest.slow", "etlpay.parked"):
            await (await amqp_channel.get_queue(queue)).purge()
        await owner.execute("TRUNCATE ingestion_sources, raw_events, processed_records, conflicts CASCADE")
        await owner.execute("ALTER TABLE raw_events DROP CONSTRAINT IF EXISTS raw_events_event_id_key")
        await owner.execute("ALTER TABLE raw_events ADD CONSTRAINT raw_events_event_id_key UNIQUE (event_id)")
    await child.kill()
    await child.wait_ready()


async def _repair_watcher(world: World) -> None:
    """Remove the mutant. What it stored twice is under sources of its own case."""
    child = world.children["file-watcher"]
    child.always(next(program for program in world.service_programs() if program.name == "file-watcher"))
    await child.terminate()
    await child.wait_ready()


async def _with_many_unacknowledged(context: Context) -> bool:
    """A slow database lets deliveries pile up in the processor, so that its death meets more than one."""
    context.world.proxy("processor", "postgres").slow_down(0.1)
    return await context.came_true()


async def _killed(context: Context) -> bool:
    died = True
    for _ in range(2):
        await context.moment()
        died = await context.child("processor").kill() and died
        await context.child("processor").wait_ready()
    return died


async def _lost_beside_unreported(context: Context) -> bool:
    """The gateway dies before it reports what it stored; fewer acknowledged events are lost than that."""
    gateway = context.child("api-gateway")
    await gateway.restart(gateway.with_environment(ETLPAY_RECEIPT_SECONDS=_RECEIPT_SECONDS))
    await context.moment(2.0, 3.0)
    died = await gateway.kill()
    await gateway.wait_ready()
    acknowledged = [sent.key for sent in context.load.journal.acknowledged() if sent.key]
    async with context.world.owner() as owner, owner.transaction():
        # No conflict refers to them, and no producer sends them again.
        lost = await owner.fetch(_CHOOSE_LOST, acknowledged, f"{context.load.journal.source}.http", _LOST)
        ids = [row["id"] for row in lost]
        await owner.execute("DELETE FROM processed_records WHERE raw_event_id = ANY($1::bigint[])", ids)
        await owner.execute("DELETE FROM raw_events WHERE id = ANY($1::bigint[])", ids)
    return died and len(ids) == _LOST


async def _nothing(context: Context) -> bool:
    """No fault is needed: events of one object come in another order than they happened."""
    await context.moment()
    return True


CASES: Final = [
    Case(
        "mutant: ack before commit",
        _with_many_unacknowledged,
        arm=("processor", "processor.before_write:kill@20"),
        channels=frozenset({"file", "queue"}),
        before=_mutate("ack-before-commit"),
        after=_repair,
        must_show=Sign.LOST,
        smoke=True,
        drain_seconds_max=_DRAIN_SECONDS_MAX,
    ),
    Case(
        "mutant: no unique key",
        _killed,
        before=_mutate("no-unique-key", "ALTER TABLE raw_events DROP CONSTRAINT raw_events_event_id_key"),
        after=_repair,
        must_show=Sign.DOUBLED,
        smoke=True,
        drain_seconds_max=_DRAIN_SECONDS_MAX,
    ),
    Case(
        "mutant: key in a second transaction",
        came_true,
        arm=("processor", "mutant.between_transactions:kill@3"),
        before=_mutate("key-in-second-transaction"),
        after=_repair,
        must_show=Sign.WITHOUT_RECORD,
        drain_seconds_max=_DRAIN_SECONDS_MAX,
    ),
    Case(
        "mutant: typed rows in a second transaction",
        came_true,
        arm=("processor", "mutant.between_transactions:kill@3"),
        before=_mutate("rows-in-second-transaction"),
        after=_repair,
        must_show=Sign.MISSING_ROW,
        drain_seconds_max=_DRAIN_SECONDS_MAX,
        pipeline=True,
    ),
    Case(
        "mutant: upsert without the version guard",
        _nothing,
        before=_mutate("upsert-without-guard"),
        after=_repair,
        must_show=Sign.WRONG_ROW,
        drain_seconds_max=_DRAIN_SECONDS_MAX,
        pipeline=True,
    ),
    Case(
        "events lost beside a killed gateway: the audit tells",
        _lost_beside_unreported,
        channels=frozenset({"http"}),
        reconcile=reconcile,
        must_show=Sign.REPORTED,
        smoke=True,
        drain_seconds_max=_DRAIN_SECONDS_MAX,
    ),
    Case(
        "mutant: audit that nets",
        _lost_beside_unreported,
        channels=frozenset({"http"}),
        reconcile=net,
        must_show=Sign.UNREPORTED,
        smoke=True,
        drain_seconds_max=_DRAIN_SECONDS_MAX,
    ),
    Case(
        "mutant: fingerprint in memory only",
        appended(kill),
        arm=MID_FILE,
        channels=NO_FILES,
        before=_mutate("fingerprint-in-memory", service="file-watcher"),
        after=_repair_watcher,
        must_show=Sign.DOUBLED,
        drain_seconds_max=_DRAIN_SECONDS_MAX,
    ),
    Case(
        "mutant: identity from the packed bytes",
        repacked,
        before=_mutate("packed-identity", service="file-watcher"),
        after=_repair_watcher,
        must_show=Sign.DOUBLED,
        drain_seconds_max=_DRAIN_SECONDS_MAX,
    ),
]
