"""Runs cases one after the other in one world, and checks each."""

import asyncio
import contextlib
import gc
import random
import time
import traceback
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from uuid import UUID

from faults.harness.audit import balance, expect_report
from faults.harness.case import Case, Context
from faults.harness.checks import Baseline, Logs, Sign, Verdict, compare, read_ledger, wait_drained
from faults.harness.journal import Journal
from faults.harness.load import Load
from faults.harness.typed import CasePipeline
from faults.harness.world import World, new_world
from shared.contracts.event import now
from support.waiting import until_true


class AnyCase(Protocol):
    """A case of any kind, as its result knows it."""

    @property
    def name(self) -> str:
        """What it is called in the report."""

    @property
    def must_show(self) -> Sign | None:
        """What the checks must see, where the product is broken on purpose."""


@dataclass
class Result:
    """What became of a case."""

    case: AnyCase
    seed: int
    fired: bool = False
    verdict: Verdict = field(default_factory=Verdict)
    recovery_seconds: float = 0.0
    broken: bool = False
    """Whether the harness itself failed: then nothing is known of the product."""

    @property
    def answer_seconds(self) -> float:
        """How long the longest call took of those that wait for an answer."""
        return max(self.verdict.longest_seconds.get(channel, 0.0) for channel in ("http", "grpc", "reading"))

    @property
    def clean(self) -> bool:
        """Whether every check held."""
        return not (self.verdict.lost or self.verdict.doubled or self.verdict.problems)

    @property
    def passed(self) -> bool:
        """Whether the case says what it should: the fault came true, and all is well, or a mutant shows its sign."""
        if self.case.must_show is not None:
            return self.fired and not self.broken and self.verdict.shows(self.case.must_show)
        return self.fired and self.clean

    @property
    def word(self) -> str:
        """The result in a word."""
        if not self.fired:
            return "void"
        if self.case.must_show is not None:
            return "caught" if self.passed else "NOT CAUGHT"
        return "ok" if self.passed else "FAILED"


async def run_cases(
    cases: Sequence[Case], *, seed: int, events: int, keep_files: Path, show: Callable[[Result], None]
) -> list[Result]:
    """Run the cases; after one that failed the next gets a new world, since the old one may be damaged."""
    results: list[Result] = []
    left = list(cases)
    while left:
        async with new_world(keep_files) as world:
            baseline = await _warm_up(world, seed)
            dead: set[UUID] = set()
            while left:
                result = await _run(world, left.pop(0), baseline, dead, seed=seed, events=events)
                results.append(result)
                show(result)
                if not result.passed:
                    _keep_logs(world, keep_files / f"{seed}-{_slug(result.case.name)}", result)
                    break
    # A connection of aio-pika that came to nothing closes itself, with a task, when Python finds it. Where no loop runs
    # that ends in a warning: so let it be found here.
    gc.collect()
    await asyncio.sleep(0)
    return results


async def _warm_up(world: World, seed: int) -> Baseline:
    """Send a little over every channel first: what every service opens once is no leak."""
    journal = Journal(world.layout.state_folder / "journal", "warm-up", seed)
    try:
        load = Load(world, journal, events=400, seed=seed)
        load.enough.set()
        async with asyncio.timeout(90):
            await load.run()
        await wait_drained(world, journal)
    finally:
        journal.close()
    verdict = compare(journal, await read_ledger(world, journal.source))
    if verdict.lost or verdict.doubled or verdict.problems:
        raise RuntimeError(f"not even without a fault: {dict(verdict.problems)}")
    return Baseline(world)


async def _run(  # noqa: PLR0913 - what a case is, and what it runs in
    world: World, case: Case, baseline: Baseline, dead: set[UUID], *, seed: int, events: int
) -> Result:
    began_at = now()
    killed_before = world.ingest_services_killed
    result = Result(case, seed)
    logs = Logs(world)
    own_seed = seed ^ zlib.crc32(case.name.encode())
    journal = Journal(world.layout.state_folder / "journal", f"{seed}-{_slug(case.name)}", own_seed)
    try:
        pipeline = CasePipeline(world, journal.source) if case.pipeline else None
        async with _prepared(world, case, pipeline):
            fault = await world.arm(*case.arm) if case.arm else None
            load = Load(world, journal, events=events, seed=own_seed)
            load.channels = case.channels
            chance = random.Random(own_seed)  # noqa: S311 - a seeded test, not a secret
            context = Context(world, load, chance, fault, pipeline)
            await _inflict(case, context, result)
            result.recovery_seconds += await wait_drained(world, journal, case.drain_seconds_max)
            processed = pipeline is None or await pipeline.wait_processed()
            result.verdict = compare(journal, await read_ledger(world, journal.source))
            result.verdict.problems.update(context.problems)
            if pipeline is not None:
                result.verdict.problems.update(await pipeline.problems(processed=processed))
            if case.must_show is None:
                result.verdict.expect_recovery(result.recovery_seconds, seconds_max=case.drain_seconds_max)
            if case.must_show is Sign.LOST:
                await _expect_drained(context)
        await baseline.compare(result.verdict)
        if case.must_show is None:
            killed = world.ingest_services_killed != killed_before
            await balance(
                world, journal, result.verdict, parked=case.parked, killed=killed, began_at=began_at, dead=dead
            )
        elif case.reconcile is not None:
            await expect_report(world, journal, result.verdict, reconcile=case.reconcile, dead=dead)
    # A case that fails in any way has its place in the record, and the next one runs.
    except Exception as error:  # noqa: BLE001 - the loop boundary
        result.broken = True
        result.verdict.fault(f"{type(error).__name__}: {first_line(error)}")
        (world.layout.logs / "harness.log").write_text(traceback.format_exc())
    finally:
        journal.close()
    logs.check(result.verdict, injected=bool(case.arm and case.arm[1].partition(":")[2].startswith("error")))
    return result


async def _expect_drained(context: Context) -> None:
    """Where a loss is what is looked for, what is only late must not pass for it. Raises RuntimeError."""
    if late := sum((await context.ingest_queues()).values()):
        raise RuntimeError(f"{late} messages are still in the ingest queues: what is missing may only be late")


async def _inflict(case: Case, context: Context, result: Result) -> None:
    async with asyncio.timeout(case.seconds_max), asyncio.TaskGroup() as group:
        loading = group.create_task(context.load.run())
        await context.load.flowing()
        try:
            result.fired = await case.inflict(context)
        finally:
            context.load.enough.set()
            for proxy in context.world.proxies.values():
                proxy.heal()
        healed = time.monotonic()
        if case.must_show is None:
            waiting = context.load.journal.unanswered()
            await context.world.wait_ready()
            # A service that says it is ready must also answer the calls that waited for it.
            await until_true(lambda: all(sent.first.answer for sent in waiting), case.drain_seconds_max)
        result.recovery_seconds = time.monotonic() - healed
        if case.must_show is not None:
            await asyncio.wait([loading], timeout=10)
            loading.cancel()


@contextlib.asynccontextmanager
async def _prepared(world: World, case: Case, pipeline: CasePipeline | None) -> AsyncIterator[None]:
    if pipeline is not None:
        await pipeline.apply()
        await pipeline.wait_running()
    if case.before is not None:
        await case.before(world)
    try:
        yield
    finally:
        if case.after is not None:
            await case.after(world)
        if pipeline is not None:
            await pipeline.choose("off")


def _keep_logs(world: World, folder: Path, result: Result) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in (*world.layout.logs.glob("*.log"), world.layout.state_folder / "journal"):
        if path.exists():
            (folder / path.name).write_bytes(path.read_bytes())
    (folder / "problems").write_text("\n".join(f"{count} x {what}" for what, count in result.verdict.problems.items()))


def first_line(error: BaseException) -> str:
    """Return the beginning of what went wrong first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__} {error}".split("\n")[0][:200]


def _slug(name: str) -> str:
    return "".join(char if char.isalnum() else "-" for char in name.lower()).strip("-")
