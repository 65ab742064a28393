"""Runs the cases of containers one after the other in one stack, with the same checks as the others."""

import asyncio
import random
import tempfile
import time
import zlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

from faults.cases.compose import ContainerCase
from faults.harness.audit import balance
from faults.harness.checks import Verdict, compare, read_ledger, wait_drained
from faults.harness.containers import Containers, moment, new_containers
from faults.harness.journal import CANARY, Journal
from faults.harness.load import Load
from faults.harness.runner import Result, first_line
from faults.harness.world import SERVICES
from shared.contracts.event import now

_SECONDS_MAX: Final = 300.0


async def run_container_cases(
    cases: Sequence[ContainerCase], *, seed: int, events: int, show: Callable[[Result], None]
) -> list[Result]:
    """Run the cases in a stack of containers that is built for them and deleted after them."""
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="etlpay-faults-") as folder, new_containers(Path(folder)) as containers:
        await containers.wait_ready()
        secrets = await containers.secrets()
        if not secrets:
            raise RuntimeError("no secrets to look for in the logs")
        dead: set[UUID] = set()
        for case in cases:
            results.append(await _run(containers, case, Path(folder), secrets, dead, seed=seed, events=events))
            show(results[-1])
    return results


async def _run(  # noqa: PLR0913 - what a case is, and what it runs in
    containers: Containers,
    case: ContainerCase,
    folder: Path,
    secrets: Collection[bytes],
    dead: set[UUID],
    *,
    seed: int,
    events: int,
) -> Result:
    began_at = now()
    killed_before = containers.ingest_services_killed
    result = Result(case, seed)
    since = moment()
    own_seed = seed ^ zlib.crc32(case.name.encode())
    journal = Journal(folder / "journal", f"{seed}-{own_seed:x}", own_seed)
    try:
        load = Load(containers, journal, events=events, seed=own_seed)
        async with asyncio.timeout(_SECONDS_MAX), asyncio.TaskGroup() as group:
            group.create_task(load.run())
            await load.flowing()
            try:
                result.fired = await case.inflict(containers, random.Random(own_seed))  # noqa: S311 - a seeded test
            finally:
                load.enough.set()
            healed = time.monotonic()
            await containers.wait_ready()
            result.recovery_seconds = time.monotonic() - healed
        result.recovery_seconds += await wait_drained(containers, journal, case.drain_seconds_max)
        result.verdict = compare(journal, await read_ledger(containers, journal.source))
        result.verdict.expect_recovery(result.recovery_seconds, seconds_max=case.drain_seconds_max)
        killed = containers.ingest_services_killed != killed_before
        await balance(containers, journal, result.verdict, parked=0, killed=killed, began_at=began_at, dead=dead)
    # A case that fails in any way has its place in the record, and the next one runs.
    except Exception as error:  # noqa: BLE001 - the loop boundary
        result.verdict.fault(f"{type(error).__name__}: {first_line(error)}")
    finally:
        journal.close()
    check_logs(
        result.verdict,
        await containers.logs(since, *SERVICES),
        everything=await containers.logs(since),
        secrets=secrets,
    )
    return result


def check_logs(verdict: Verdict, services: bytes, *, everything: bytes, secrets: Collection[bytes]) -> None:
    """Note secrets and payloads in any container's log, and tracebacks in those of the services."""
    if any(secret in everything for secret in secrets):
        verdict.fault("a secret in the logs")
    if CANARY.encode() in everything:
        verdict.fault("a payload in the logs")
    if b"Traceback" in services:
        verdict.fault("a traceback in the logs")
    if b"ended by an" in services:
        verdict.fault("an unexpected end in the logs")
