"""The record of a run, and the table of the newest one in docs/faults.md, which `python -m faults.record` writes."""

import os
import platform
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from faults.harness.runner import Result
from faults.matrix import GROUPS
from support.run_records import DOCS, Record, about_run, newest, path_of, table, with_part, write

PAGE: Final = DOCS / "faults.md"
_PASSED: Final = frozenset({"ok", "caught"})
_GROUPS: Final = {case.name: group for group, cases in GROUPS.items() for case in cases}
_HEAD: Final = ("group", "cases", "acknowledged", "lost", "doubled", "longest recovery", "longest answer", "results")


def record_of(results: Sequence[Result], *, events: int, where: str, whole: bool) -> Record:
    """Return the record of a run in which each case sent `events` at least."""
    return about_run(whole=whole) | {
        "where": where,
        "machine": f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {platform.system()} {platform.machine()}",
        "events_min": events,
        "seeds": sorted({result.seed for result in results}),
        "cases": [_case(of_case) for of_case in _by_case(results)],
        "problems": [
            {"case": result.case.name, "seed": result.seed, "problem": problem, "count": count}
            for result in results
            if not result.passed
            for problem, count in result.verdict.problems.items()
        ],
    }


def _by_case(results: Sequence[Result]) -> Iterable[list[Result]]:
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.case.name, []).append(result)
    return found.values()


def _case(results: Sequence[Result]) -> dict[str, Any]:
    """Return one case over all its seeds: sums, and the longest recovery and answer."""
    verdicts = [result.verdict for result in results]
    name = results[0].case.name
    return {
        "case": name,
        "group": _GROUPS.get(name, "containers"),
        "seeds": [result.seed for result in results],
        "came_true": sum(result.fired for result in results),
        **{
            count: sum(getattr(verdict, count) for verdict in verdicts)
            for count in ("acknowledged", "stored", "lost", "doubled")
        },
        "recovery_seconds": round(max(result.recovery_seconds for result in results), 1),
        "answer_seconds": round(max(result.answer_seconds for result in results), 1),
        "results": dict(Counter(result.word for result in results)),
    }


def overstated(cases: Sequence[dict[str, Any]], *, seeds: Collection[int]) -> list[str]:
    """Return the cases that passed although the fault did not come true once for each seed of the run."""
    return [
        case["case"]
        for case in cases
        if set(case["results"]) <= _PASSED and (case["came_true"] < len(seeds) or not set(seeds) <= set(case["seeds"]))
    ]


def save(kind: str, record: Record) -> None:
    """Write the record and the page that shows the newest one.

    Raises:
        ValueError: a case says more than the run has seen; nothing is written.
    """
    if wrong := overstated(record["cases"], seeds=record["seeds"]):
        raise ValueError(f"not every seed saw the fault come true: {', '.join(wrong)}")
    write(path_of(kind, record), record)
    PAGE.write_text(current_page(), encoding="utf-8")


def summary(record: Record) -> str:
    """Return a run in a sentence."""
    sound = [case for case in record["cases"] if case["group"] != "mutants"]
    mutants = [case for case in record["cases"] if case["group"] == "mutants"]
    return (
        f"{_passed(sound)} of {_runs(sound)} cases passed: {_sum(sound, 'acknowledged'):,} events acknowledged,"
        f" {_sum(sound, 'lost')} lost, {_sum(sound, 'doubled')} doubled."
        f" {_passed(mutants)} of {_runs(mutants)} mutants caught."
    )


def current_page() -> str:
    """Return docs/faults.md with the newest runs in it."""
    page = PAGE.read_text(encoding="utf-8")
    return with_part(page, "\n".join(_part(newest(kind)) for kind in ("faults", "faults-compose")))


def _part(record: Record) -> str:
    groups = dict.fromkeys(case["group"] for case in record["cases"])
    rows = [_row(group, [case for case in record["cases"] if case["group"] == group]) for group in groups]
    at, seeds = record["finished_at"], ", ".join(map(str, record["seeds"]))
    return (
        f"{at[:10]} {at[11:16]} UTC, {record['where']}, at least {record['events_min']} events a case, seeds {seeds}:"
        f" {summary(record)} [Record](records/{record['file']}).\n\n{table(_HEAD, rows)}"
    )


def _row(group: str, cases: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    words = sum((Counter(case["results"]) for case in cases), Counter[str]())
    return (
        group,
        str(len(cases)),
        *(f"{_sum(cases, count):,}" for count in ("acknowledged", "lost", "doubled")),
        f"{max(case['recovery_seconds'] for case in cases):.1f} s",
        f"{max(case['answer_seconds'] or 0.0 for case in cases):.1f} s",
        ", ".join(f"{count} {word}" for word, count in words.items()),
    )


def _sum(cases: Sequence[dict[str, Any]], count: str) -> int:
    return sum(case[count] for case in cases)


def _runs(cases: Sequence[dict[str, Any]]) -> int:
    return sum(len(case["seeds"]) for case in cases)


def _passed(cases: Sequence[dict[str, Any]]) -> int:
    return sum(count for case in cases for word, count in case["results"].items() if word in _PASSED)


if __name__ == "__main__":
    PAGE.write_text(current_page(), encoding="utf-8")
