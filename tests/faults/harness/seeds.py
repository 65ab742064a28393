"""Runs cases with several seeds side by side, each seed in a process and a world of its own."""

import asyncio
import contextlib
import multiprocessing
import multiprocessing.queues
import queue
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from faults.harness.checks import Sign
from faults.harness.runner import Result, run_cases
from faults.matrix import ALL

_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Named:
    """What a report says of a case; the case itself does not leave its process."""

    name: str
    must_show: Sign | None = None


def run_seeds(
    names: Collection[str], *, seeds: Sequence[int], events: int, keep_files: Path, show: Callable[[Result], None]
) -> list[Result]:
    """Return the results of the cases with these names, seed after seed, each shown as soon as it is there.

    Raises:
        RuntimeError: a process ended before its cases did.
    """
    context = multiprocessing.get_context("spawn")
    ready: multiprocessing.queues.Queue[Result] = context.Queue()
    processes = [
        context.Process(target=_run_seed, args=(names, seed, events, keep_files, ready), name=f"seed {seed}")
        for seed in seeds
    ]
    for process in processes:
        process.start()
    results: list[Result] = []
    running = True
    while running:
        # Asked before the queue is: what was put before the end of the last process is still taken.
        running = any(process.is_alive() for process in processes)
        with contextlib.suppress(queue.Empty):
            while True:
                results.append(ready.get(timeout=_POLL_SECONDS))
                show(results[-1])
    if broken := [process.name for process in processes if process.exitcode]:
        raise RuntimeError(f"not run to the end: {', '.join(broken)}")
    return sorted(results, key=lambda result: result.seed)


def _run_seed(
    names: Collection[str], seed: int, events: int, keep_files: Path, ready: "multiprocessing.queues.Queue[Result]"
) -> None:
    def put(result: Result) -> None:
        ready.put(replace(result, case=Named(result.case.name, result.case.must_show)))

    cases = [case for case in ALL if case.name in names]
    asyncio.run(run_cases(cases, seed=seed, events=events, keep_files=keep_files, show=put))
