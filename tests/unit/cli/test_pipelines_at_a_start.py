"""A local start applies the pipeline files; what is wrong with one is told, and stops nothing."""

import asyncio
import sys
from pathlib import Path

import pytest

from etlpay_cli import state
from etlpay_cli.layout import Layout
from etlpay_cli.local import services
from etlpay_cli.local.services import Task
from etlpay_cli.local.supervisor import Supervisor


async def start(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> state.State:
    """Apply the pipeline files of a folder with a program in place of the one-shot."""
    layout = Layout(folder)
    layout.make_folders()
    known = state.State(mode="local", ports={"postgres": 1})
    monkeypatch.setattr(services, "pipelines", lambda *_: Task("pipelines", (sys.executable, "-c", program), {}))
    async with asyncio.TaskGroup() as group:
        await Supervisor(layout, known, group)._apply_pipelines()
    return known


async def test_a_file_that_is_refused_is_told_and_is_no_failed_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "shop.toml").write_text("")

    known = await start(tmp_path, monkeypatch, "print('shop  REFUSED'); raise SystemExit(1)")

    assert known.pipelines == state.Applied(succeeded=False, text="shop  REFUSED")
    assert known.failed is None
    assert state.read_state(Layout(tmp_path).state) == known


async def test_what_was_applied_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "shop.toml").write_text("")

    known = await start(tmp_path, monkeypatch, "print('applied: shop')")

    assert known.pipelines == state.Applied(succeeded=True, text="applied: shop")


async def test_examples_below_the_folder_are_never_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pipelines" / "examples").mkdir(parents=True)
    (tmp_path / "pipelines" / "examples" / "shop.toml").write_text("")

    known = await start(tmp_path, monkeypatch, "raise SystemExit(1)")

    assert known.pipelines is None
