"""`python -m faults`: run the fault matrix. Exit code 0: every case passed, every mutant was caught, none was void.

`make faults` runs all of it, `make faults SMOKE=1` the part of a few minutes; SEED, CASES and EVENTS choose.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeVar

from faults.cases.compose import CASES as COMPOSE
from faults.harness.case import Case
from faults.harness.runner import AnyCase, Result
from faults.harness.runner_compose import run_container_cases
from faults.harness.seeds import run_seeds
from faults.matrix import ALL
from faults.record import record_of, save, summary
from support.servers import CHECKOUT

C = TypeVar("C", bound=AnyCase)

_EVENTS: Final = 2_000
_SMOKE_EVENTS: Final = 600


def choose(names: str, *, smoke: bool) -> list[Case]:
    """Return the cases whose names hold one of the words, separated by commas; all where there are none."""
    return [case for case in _named(ALL, names) if case.smoke or not smoke]


def _named(cases: Sequence[C], names: str) -> list[C]:
    wanted = [word.strip().lower() for word in names.split(",") if word.strip()]
    return [case for case in cases if not wanted or any(word in case.name.lower() for word in wanted)]


def main() -> int:
    """Return the exit code: 0 passed, 1 not, 2 nothing to do."""
    arguments = _parser().parse_args()
    every: Sequence[AnyCase] = COMPOSE if arguments.compose else ALL
    chosen = _named(every, arguments.cases) if arguments.compose else choose(arguments.cases, smoke=arguments.smoke)
    names = [case.name for case in chosen]
    if arguments.list or not names:
        print("\n".join(names or [case.name for case in every]))  # noqa: T201 - a program for the terminal
        return 0 if arguments.list else 2
    events = arguments.events or (_SMOKE_EVENTS if arguments.smoke else _EVENTS)
    results = (_run_in_containers if arguments.compose else _run)(names, arguments, events)
    where = "containers under docker compose" if arguments.compose else "local servers"
    record = record_of(results, events=events, where=where, whole=len(names) == len(every))
    print(summary(record))  # noqa: T201 - a program for the terminal
    if arguments.record:
        save("faults-compose" if arguments.compose else "faults", record)
    return 0 if all(result.passed for result in results) else 1


def _run(names: list[str], arguments: argparse.Namespace, events: int) -> list[Result]:
    return run_seeds(names, seeds=arguments.seed, events=events, keep_files=arguments.logs, show=_show)


def _run_in_containers(names: list[str], arguments: argparse.Namespace, events: int) -> list[Result]:
    cases = [case for case in COMPOSE if case.name in names]
    results = []
    for seed in arguments.seed:
        results += asyncio.run(run_container_cases(cases, seed=seed, events=events, show=_show))
    return results


def _show(result: Result) -> None:
    verdict = result.verdict
    lines = [
        (
            f"{result.word:<10} {result.case.name:<68} {verdict.acknowledged:>7} acknowledged {verdict.lost:>4} lost"
            f" {verdict.doubled:>4} doubled  recovered in {result.recovery_seconds:.1f} s"
            f"  answered in {result.answer_seconds:.1f} s"
        )
    ]
    if not result.passed:
        lines += [f"           {count} x {problem}" for problem, count in verdict.problems.items()]
    print("\n".join(lines), flush=True)  # noqa: T201 - a program for the terminal


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="only the cases that stand for the others")
    parser.add_argument("--compose", action="store_true", help="the cases of containers, in place of the others")
    parser.add_argument("--seed", type=_seeds, default=[1], help="one, or several separated by commas")
    parser.add_argument("--cases", default="", help="words of names, separated by commas")
    parser.add_argument("--events", type=int, default=0, help="events of each case, at least")
    parser.add_argument("--record", action="store_true", help="write the run into docs/records and docs/faults.md")
    parser.add_argument("--logs", type=Path, default=CHECKOUT / ".etlpay" / "faults", help="logs of what failed")
    parser.add_argument("--list", action="store_true", help="show the names of the cases")
    return parser


def _seeds(text: str) -> list[int]:
    return [int(seed) for seed in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
