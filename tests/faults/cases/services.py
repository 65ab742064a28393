"""Services that are killed, frozen and stopped, at failpoints and at random moments."""

import asyncio
import signal
from dataclasses import replace
from typing import Final

from etlpay_cli.local import services
from etlpay_cli.ports import choose_ports
from faults.harness.case import Case, Context
from faults.harness.world import SERVICES, World, unusual
from support.supervisor import Child
from support.waiting import until_true

_EXIT_SECONDS_MAX: Final = 25.0

# Where a service is killed, the passage at which it is, and whether the short run has it too.
_KILLS: Final = (
    ("api-gateway", "api-gateway.body_read", 5, False),
    ("api-gateway", "submission.before_call", 5, False),
    ("api-gateway", "submission.before_publish", 3, False),
    ("api-gateway", "submission.published", 3, False),
    ("api-gateway", "api-gateway.before_response", 5, True),
    ("api-gateway", "api-gateway.group_answered", 3, False),
    ("grpc-ingest", "grpc-ingest.received", 5, False),
    ("grpc-ingest", "submission.before_call", 5, False),
    ("grpc-ingest", "submission.before_publish", 3, False),
    ("grpc-ingest", "submission.published", 3, False),
    ("grpc-ingest", "grpc-ingest.before_response", 5, False),
    # Not in the smoke run: a client whose server dies in the middle of an answer sometimes calls that INTERNAL.
    ("grpc-ingest", "grpc-ingest.mid_stream", 4, False),
    ("file-watcher", "file-watcher.seen", 2, False),
    ("file-watcher", "file-watcher.claimed", 2, False),
    ("file-watcher", "file-watcher.noted", 2, False),
    ("file-watcher", "file-watcher.identified", 2, False),
    ("file-watcher", "file-watcher.mid_file", 2, False),
    ("file-watcher", "file-watcher.before_move", 2, True),
    ("file-watcher", "file-watcher.remembered", 2, False),
    ("file-watcher", "file-watcher.moved", 2, False),
    ("queue-consumer", "queue-consumer.received", 10, False),
    ("queue-consumer", "queue-consumer.before_publish", 5, False),
    ("queue-consumer", "queue-consumer.before_ack", 10, True),
    ("queue-consumer", "queue-consumer.acked", 10, False),
    ("processor", "processor.received", 5, False),
    ("processor", "processor.called", 5, False),
    ("processor", "processor.before_write", 5, False),
    ("processor", "processor.half_copied", 5, True),
    ("processor", "processor.in_transaction", 5, False),
    ("processor", "processor.before_commit", 5, False),
    ("processor", "processor.committed", 5, False),
    ("processor", "processor.after_commit_before_ack", 5, True),
    ("processor", "processor.before_answer", 5, False),
    ("processor", "processor.acked", 5, False),
)


async def came_true(context: Context) -> bool:
    """Wait for the failpoint; the supervisor does the rest."""
    return await context.came_true()


def _killed(service: str) -> Case:
    async def inflict(context: Context) -> bool:
        died = True
        for _ in range(3):
            await context.moment()
            died = await context.child(service).kill() and died
            await context.child(service).wait_ready()
        return died

    return Case(f"kill -9 of {service}, three times", inflict)


def _frozen(seconds: float, *frozen: str) -> Case:
    async def inflict(context: Context) -> bool:
        await context.moment()
        return all(await asyncio.gather(*(context.child(name).freeze(seconds) for name in frozen)))

    return Case(f"{' and '.join(frozen)} frozen for {seconds:.0f} s", inflict)


def _paused_at(place: str, seconds: float) -> Case:
    """A processor that is stopped in the middle, and continues after every caller has given up."""

    async def inflict(context: Context) -> bool:
        processor = context.child("processor")
        fired = await context.came_true()
        await asyncio.sleep(seconds)
        fired = fired and processor.stands_still
        processor.send_signal(signal.SIGCONT)
        return fired

    return Case(f"processor stopped at {place} for {seconds:.0f} s", inflict, arm=("processor", f"{place}:pause@5"))


async def _surprise(context: Context) -> bool:
    return await context.came_true()


async def _roll(context: Context) -> bool:
    """Stop each service in turn as an upgrade does; it ends by itself, in time, with nothing to complain."""
    ended = True
    for service in SERVICES:
        child = context.child(service)
        lives = len(child.exits)
        seconds = await child.terminate()
        await asyncio.sleep(0.1)
        if seconds > _EXIT_SECONDS_MAX:
            context.problems.append(f"{service} took {seconds:.0f} s to end")
        if child.exits[lives:] and child.exits[lives] != 0:
            context.problems.append(f"{service} ended with exit code {child.exits[lives]}")
        ended = ended and len(child.exits) > lives
        await child.wait_ready()
    return ended


async def _gateway_dies_without_answer(context: Context) -> bool:
    """The request was handed over, the processor has not answered yet, and the gateway dies."""
    with context.child("processor").frozen() as stands_still:
        await asyncio.sleep(0.7)
        died = [await context.child(name).kill() for name in ("api-gateway", "grpc-ingest")]
        return stands_still() and all(died)


async def _killed_in_its_statement(context: Context) -> bool:
    """What the server makes of a statement whose sender is gone is not known to anybody, until it is sent again."""
    async with context.world.owner() as owner, owner.transaction():
        await owner.execute("LOCK TABLE raw_events IN SHARE MODE")

        async def waits() -> bool:
            query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'raw_events'::regclass"
            return bool(await owner.fetchval(query))

        waited = await until_true(waits, 20)
        ended = await context.child("processor").kill()
    return waited and ended


async def _all_die(context: Context) -> bool:
    """The machine's power fails, as far as the services are concerned."""
    await context.moment()
    return all(await asyncio.gather(*(context.child(service).kill() for service in SERVICES)))


async def start_second(world: World, service: str) -> Child:
    """Start a second process of a service, on ports of its own."""
    # What this world has now is held while the new ones are chosen, so that none is taken twice.
    more = choose_ports({}, {}, unusual)
    own = {name: more[name] for name in ("processing", "processor-ops", "file-watcher-ops")}
    ports = {**world.ports, **own}
    programs = (services.processor(world.layout, ports), *services.edge_services(world.layout, ports))
    program = next(program for program in programs if program.name == service)
    child = world.keep(replace(program, name=f"{service}-2"))
    await child.wait_ready()
    return child


async def stop_second(world: World, service: str) -> None:
    """End the second process."""
    child = world.children.pop(f"{service}-2", None)
    if child is not None:
        await child.stop()


def _two(service: str) -> Case:
    async def inflict(context: Context) -> bool:
        second = await start_second(context.world, service)
        died = True
        for child in (context.child(service), second, context.child(service)):
            await context.moment()
            died = await child.kill() and died
            await child.wait_ready()
        return died

    async def after(world: World) -> None:
        await stop_second(world, service)

    return Case(f"two of {service}, killed in turn", inflict, after=after)


CASES: Final = [
    *(
        Case(f"kill -9 of {service} at {place}", came_true, arm=(service, f"{place}:kill@{passage}"), smoke=smoke)
        for service, place, passage, smoke in _KILLS
    ),
    *(_killed(service) for service in SERVICES),
    Case("kill -9 of processor while its statement waits for a lock", _killed_in_its_statement),
    Case("kill -9 of all services at once", _all_die),
    Case("services killed while they wait for the processor", _gateway_dies_without_answer),
    Case("surprise in a transaction of the processor", _surprise, arm=("processor", "processor.before_commit:error@5")),
    Case("surprise in the consumer of the processor", _surprise, arm=("processor", "processor.received:error@5")),
    _frozen(5, "processor"),
    _frozen(5, "api-gateway"),
    _frozen(5, "grpc-ingest"),
    _frozen(5, "file-watcher"),
    # At once, since the others of the three do nothing for the one: they meet when they wake up.
    _frozen(40, "queue-consumer", "processor", "api-gateway"),
    _paused_at("processor.in_transaction", 14),
    _paused_at("processor.before_commit", 5),
    _paused_at("processor.after_commit_before_ack", 40),
    Case("SIGTERM to each service in turn", _roll, smoke=True),
    _two("processor"),
    _two("file-watcher"),
]
