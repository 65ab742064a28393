"""The report of a run: a table on the terminal, and the same, with its date, in docs/faults.md."""

import os
import platform
import sys
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from faults.harness.runner import Result

_TOGETHER: Final = (
    "case", "seeds", "fault came true", "acknowledged", "stored", "lost", "doubled", "longest recovery",
    "longest answer", "result",
)  # fmt: skip
# The words of a case that said what it should.
_PASSED: Final = frozenset({"ok", "caught"})


class Screen:
    """A progress bar on a terminal, and a line per case everywhere."""

    def __init__(self, total: int) -> None:
        """`total` is how many cases there will be."""
        self._console = Console()
        self._progress = Progress(
            BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"),
            console=self._console, disable=not self._console.is_terminal,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=total)

    def tell(self, result: Result) -> None:
        """Show a result."""
        cells = row(result)
        self._progress.advance(self._task)
        self._console.print(
            f"{cells[-1]:<10} {result.case.name:<68} {cells[3]:>7} acknowledged {cells[5]:>4} lost"
            f" {cells[6]:>4} doubled  recovered in {cells[7]}  answered in {cells[8]}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
        if not result.passed:
            for problem, count in result.verdict.problems.items():
                self._console.print(f"           {count} x {problem}", highlight=False, soft_wrap=True, markup=False)

    def __enter__(self) -> Self:
        """Show the bar."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        self._progress.stop()


def row(result: Result) -> tuple[str, ...]:
    """Return a result's cells."""
    verdict = result.verdict
    return (
        result.case.name,
        str(result.seed),
        "came true" if result.fired else "NEVER",
        str(verdict.acknowledged),
        str(verdict.stored),
        str(verdict.lost),
        str(verdict.doubled),
        f"{result.recovery_seconds:.1f} s",
        f"{_longest_answer(result):.1f} s",
        result.word,
    )


def together(results: Sequence[Result]) -> tuple[str, ...]:
    """Return the cells of one case over all its seeds: sums, and of the recoveries the longest."""
    verdicts = [result.verdict for result in results]
    words = Counter(result.word for result in results)
    return (
        results[0].case.name,
        ", ".join(str(result.seed) for result in results),
        f"{sum(result.fired for result in results)} times",
        str(sum(verdict.acknowledged for verdict in verdicts)),
        str(sum(verdict.stored for verdict in verdicts)),
        str(sum(verdict.lost for verdict in verdicts)),
        str(sum(verdict.doubled for verdict in verdicts)),
        f"{max(result.recovery_seconds for result in results):.1f} s",
        f"{max(map(_longest_answer, results)):.1f} s",
        ", ".join(word if len(words) == 1 else f"{count} {word}" for word, count in words.items()),
    )


def _longest_answer(result: Result) -> float:
    """Return how long the doors that answer took at most."""
    return max((result.verdict.longest_seconds.get(channel, 0.0) for channel in ("http", "grpc", "reading")), default=0)


def _by_case(results: Sequence[Result]) -> list[list[Result]]:
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.case.name, []).append(result)
    return list(found.values())


def summary(results: Sequence[Result]) -> str:
    """Return a run in a sentence."""
    sound = [result for result in results if result.case.must_show is None]
    mutants = [result for result in results if result.case.must_show is not None]
    acknowledged = sum(result.verdict.acknowledged for result in sound)
    lost = sum(result.verdict.lost for result in sound)
    doubled = sum(result.verdict.doubled for result in sound)
    return (
        f"{sum(result.passed for result in sound)} of {len(sound)} cases passed: {acknowledged:,} events acknowledged,"
        f" {lost} lost, {doubled} doubled. {sum(result.passed for result in mutants)} of {len(mutants)} mutants caught."
    )


def append(
    page: Path,
    results: Sequence[Result],
    *,
    events: int,
    where: str = "local servers",
    now: Callable[[], datetime] | None = None,
) -> None:
    """Append a run to the page.

    Raises:
        ValueError: a row would say more than the run has seen; nothing is written.
    """
    moment = now() if now else datetime.now(UTC)
    rows = [together(of_case) for of_case in _by_case(results)]
    if wrong := overstated(rows, seeds={result.seed for result in results}):
        raise ValueError(f"not every seed saw the fault come true: {', '.join(wrong)}")
    lines = [
        f"\n## {moment:%Y-%m-%d %H:%M} UTC\n",
        f"{summary(results)}\n",
        f"At least {events} events per case; {where}; {_machine()}.\n",
        f"| {' | '.join(_TOGETHER)} |",
        f"|{'---|' * len(_TOGETHER)}",
        *(f"| {' | '.join(cells)} |" for cells in rows),
        *_problems(results),
    ]
    with page.open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def overstated(rows: Sequence[Sequence[str]], *, seeds: Collection[int]) -> list[str]:
    """Return the cases whose rows, as `together` makes them, say that all went well though not every seed tried them.

    Such a row has tested less than it says, whoever wrote it.
    """
    wanted = {str(seed) for seed in seeds}
    return [
        row[0]
        for row in rows
        if row[-1] in _PASSED and (int(row[2].split()[0]) < len(wanted) or not wanted <= set(row[1].split(", ")))
    ]


def _machine() -> str:
    return f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {platform.system()} {platform.machine()}"


def _problems(results: Sequence[Result]) -> list[str]:
    failed = [result for result in results if not result.passed]
    return [
        "",
        *(f"- {result.case.name}, seed {result.seed}: {problem} ({count})" for result in failed
          for problem, count in result.verdict.problems.items()),
    ] if failed else []  # fmt: skip
