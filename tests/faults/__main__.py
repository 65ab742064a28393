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
from faults.harness.report import Screen, append, summary
from faults.harness.runner import Judged
from faults.harness.runner_compose import run_container_cases
from faults.harness.seeds import run_seeds
from faults.matrix import ALL

C = TypeVar("C", bound=Judged)

_CHECKOUT: Final = Path(__file__).resolve().parents[2]
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
    if arguments.compose:
        return _run_in_containers(arguments)
    cases = choose(arguments.cases, smoke=arguments.smoke)
    if arguments.list or not cases:
        print("\n".join(case.name for case in cases or ALL))  # noqa: T201 - a program for the terminal
        return 0 if arguments.list else 2
    events = arguments.events or (_SMOKE_EVENTS if arguments.smoke else _EVENTS)
    with Screen(len(cases) * len(arguments.seed)) as screen:
        results = run_seeds(
            [case.name for case in cases],
            seeds=arguments.seed,
            events=events,
            keep_files=arguments.logs,
            tell=screen.tell,
        )
    print(summary(results))  # noqa: T201 - a program for the terminal
    if arguments.report is not None:
        append(arguments.report, results, events=events, where="local servers, each seed with its own, side by side")
    return 0 if all(result.passed for result in results) else 1


def _run_in_containers(arguments: argparse.Namespace) -> int:
    cases = _named(COMPOSE, arguments.cases)
    if arguments.list:
        print("\n".join(case.name for case in cases))  # noqa: T201 - a program for the terminal
        return 0
    events = arguments.events or _EVENTS
    results = []
    with Screen(len(cases) * len(arguments.seed)) as screen:
        for seed in arguments.seed:
            results += asyncio.run(run_container_cases(cases, seed=seed, events=events, tell=screen.tell))
    print(summary(results))  # noqa: T201 - a program for the terminal
    if arguments.report is not None:
        append(arguments.report, results, events=events, where="containers under docker compose")
    return 0 if all(result.passed for result in results) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="only the cases that stand for the others")
    parser.add_argument("--compose", action="store_true", help="the cases of containers, in place of the others")
    parser.add_argument("--seed", type=_seeds, default=[1], help="one, or several separated by commas")
    parser.add_argument("--cases", default="", help="words of names, separated by commas")
    parser.add_argument("--events", type=int, default=0, help="events of each case, at least")
    parser.add_argument("--report", type=Path, help="the page that the run is appended to")
    parser.add_argument("--logs", type=Path, default=_CHECKOUT / ".etlpay" / "faults", help="logs of what failed")
    parser.add_argument("--list", action="store_true", help="show the names of the cases")
    return parser


def _seeds(text: str) -> list[int]:
    return [int(seed) for seed in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
