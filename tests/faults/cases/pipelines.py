"""Faults while a pipeline makes rows: afterwards the rows are just those that the stored bodies make."""

from collections.abc import Awaitable, Callable
from typing import Final

from faults.cases.services import came_true, start_second, stop_second
from faults.harness.case import Case, Context
from faults.harness.typed import CasePipeline
from faults.harness.world import World
from shared.contracts.result import RecordStatus
from support.waiting import until_true

# Between raw event, record, typed rows and commit; the passage at which it is killed; whether the short run has it.
_KILLS: Final = (
    ("processor.half_copied", 5, False),
    ("processor.rows_next", 5, False),
    ("processor.table_written", 6, True),
    ("processor.rows_written", 5, False),
    ("processor.committed", 5, False),
)
_HELD_SECONDS_MAX: Final = 30.0
_OWED_EVENTS: Final = 50
_OTHER_TEXT: Final = '{ from = "text", case = "upper" }'
_SECOND: Final = 2


def _pipeline(context: Context) -> CasePipeline:
    assert context.pipeline is not None
    return context.pipeline


async def _is_held_and_released(context: Context, mend: Callable[[], Awaitable[None]]) -> bool:
    """Wait until the table that was broken held the pipeline, mend it, and wait until it is not held any more."""
    pipeline = _pipeline(context)
    held = await until_true(pipeline.is_held, _HELD_SECONDS_MAX)
    await context.moment()
    owed = await pipeline.count(RecordStatus.HELD)
    await mend()
    return await until_true(pipeline.is_released, _HELD_SECONDS_MAX) and held and owed > 0


def _broken(break_it: str, mend_it: str) -> Callable[[Context], Awaitable[bool]]:
    """Break the `latest` table with one statement, and mend it with another."""

    async def inflict(context: Context) -> bool:
        table = _pipeline(context).table
        async with context.world.owner() as owner:

            async def mend() -> None:
                await owner.execute(mend_it.format(table))

            await context.moment()
            await owner.execute(break_it.format(table))
            return await _is_held_and_released(context, mend)

    return inflict


async def _locked(context: Context) -> bool:
    """Somebody holds a lock on the `latest` table for longer than a batch waits."""
    async with context.world.owner() as owner:
        transaction = owner.transaction()
        await context.moment()
        await transaction.start()
        await owner.execute(f"LOCK TABLE {_pipeline(context).table} IN ACCESS EXCLUSIVE MODE")
        return await _is_held_and_released(context, transaction.commit)


async def _killed_working_off(context: Context) -> bool:
    """An operator holds the pipeline and ends that; the processor is killed while it works off what is owed."""
    pipeline, processor = _pipeline(context), context.child("processor")
    await pipeline.choose("hold")

    async def is_owed() -> bool:
        return await pipeline.count(RecordStatus.HELD) >= _OWED_EVENTS

    owed = await until_true(is_owed, _HELD_SECONDS_MAX)
    await pipeline.choose("resume")
    died = True
    for _ in range(2):
        await context.moment(0.5, 2.0)
        died = await processor.kill() and died
        await processor.wait_ready()
    return owed and died


async def _reload(context: Context) -> bool:
    """Apply a version that makes other rows; return whether events met it."""
    pipeline = _pipeline(context)
    await pipeline.apply(_OTHER_TEXT)

    async def runs() -> bool:
        return await pipeline.count(RecordStatus.SUCCESS, _SECOND) > 0

    return await until_true(runs, _HELD_SECONDS_MAX)


async def _rolled_back(context: Context) -> bool:
    """Apply a version, roll it back, and apply it again."""
    reloaded = await _reload(context)
    for version in (1, _SECOND):
        await _pipeline(context).activate(version)
        await context.moment(2.0, 3.0)
    return reloaded


async def _two_processors(context: Context) -> bool:
    """Two processors take over another version while each of them is killed."""
    second = await start_second(context.world, "processor")
    reloaded, died = await _reload(context), True
    for child in (context.child("processor"), second):
        await context.moment()
        died = await child.kill() and died
        await child.wait_ready()
    return reloaded and died


async def _stop_second_processor(world: World) -> None:
    await stop_second(world, "processor")


CASES: Final = [
    *(
        Case(
            f"pipeline: kill -9 of processor at {place}",
            came_true,
            arm=("processor", f"{place}:kill@{passage}"),
            smoke=smoke,
            pipeline=True,
        )
        for place, passage, smoke in _KILLS
    ),
    Case(
        "pipeline: column of the typed table gone and back",
        _broken("ALTER TABLE {} RENAME COLUMN text TO gone", "ALTER TABLE {} RENAME COLUMN gone TO text"),
        pipeline=True,
    ),
    Case(
        "pipeline: grant on the typed table revoked",
        _broken("REVOKE INSERT ON {} FROM etlpay_processor", "GRANT INSERT ON {} TO etlpay_processor"),
        pipeline=True,
    ),
    Case("pipeline: typed table locked", _locked, pipeline=True),
    Case("pipeline: killed while it works off HELD events", _killed_working_off, pipeline=True),
    Case("pipeline: another version under load, and back", _rolled_back, pipeline=True),
    Case("pipeline: two processors, another version, both killed", _two_processors,
         after=_stop_second_processor, pipeline=True),
]  # fmt: skip
