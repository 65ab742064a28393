"""The terminal of a run: a progress bar, and a line for each case."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from faults.harness.runner import Result


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

    def show(self, result: Result) -> None:
        """Show a result, with the problems of a case that did not pass."""
        verdict = result.verdict
        self._progress.advance(self._task)
        self._console.print(
            f"{result.word:<10} {result.case.name:<68} {verdict.acknowledged:>7} acknowledged {verdict.lost:>4} lost"
            f" {verdict.doubled:>4} doubled  recovered in {result.recovery_seconds:.1f} s"
            f"  answered in {result.answer_seconds:.1f} s",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
        if not result.passed:
            for problem, count in verdict.problems.items():
                self._console.print(f"           {count} x {problem}", highlight=False, soft_wrap=True, markup=False)

    def __enter__(self) -> Self:
        """Show the bar."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bar."""
        self._progress.stop()
