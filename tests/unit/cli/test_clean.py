"""`etlpay clean` deletes no ledger by a habit from other projects."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from etlpay_cli.__main__ import app
from etlpay_cli.commands import clean as command
from etlpay_cli.layout import Layout
from etlpay_cli.settings import CliSettings


class Ledger:
    """A stack of which only its events matter."""

    def __init__(self, events: int | None) -> None:
        self._events = events
        self.deleted = False

    def count_events(self) -> int | None:
        return self._events

    async def clean(self) -> None:
        self.deleted = True


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, bool, str]]:
    def run(events: int | None, *arguments: str, files: int = 0) -> tuple[int, bool, str]:
        """Return the exit code, whether it was deleted, and what was said. There is no terminal."""
        ledger = Ledger(events)
        layout = Layout(tmp_path)
        for number in range(files):
            (layout.inbox / "shop").mkdir(parents=True, exist_ok=True)
            (layout.inbox / "shop" / f"{number}.csv").write_text("a\n1\n")
        monkeypatch.setattr(command, "checkout", lambda: (layout, CliSettings()))
        monkeypatch.setattr(command, "all_stacks", lambda *_: [ledger])
        result = CliRunner().invoke(app, ["clean", *arguments])
        return result.exit_code, ledger.deleted, result.output

    return run


@pytest.mark.parametrize(("events", "files"), [(1, 0), (0, 1), (None, 0), (2_000_000, 3)])
def test_what_would_be_lost_is_not_deleted_without_a_terminal(
    clean: Callable[..., tuple[int, bool, str]], events: int | None, files: int
) -> None:
    code, deleted, said = clean(events, files=files)

    assert (code, deleted) == (2, False)
    assert "YES=1" in said


def test_nothing_is_asked_where_nothing_is_lost(clean: Callable[..., tuple[int, bool, str]]) -> None:
    assert clean(0)[:2] == (0, True)


@pytest.mark.parametrize("events", [1, None])
def test_who_says_yes_is_not_asked(clean: Callable[..., tuple[int, bool, str]], events: int | None) -> None:
    assert clean(events, "--yes")[:2] == (0, True)
