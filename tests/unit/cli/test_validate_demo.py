"""`make validate-demo`: of the example data all planted faults are found, and nothing else."""

import sys
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from etlpay_cli.__main__ import app

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools"))

import global_econ_data  # noqa: E402 - found on the path that is added above
import validate_demo  # noqa: E402 - as above

NAME = "global_econ_validation_report"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder for files."""
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in the checkout, as `make` does."""
    monkeypatch.chdir(ROOT)


def validate(folder: Path, *options: str) -> int:
    pipeline = str(ROOT / "pipelines" / "examples" / "global_econ.toml")
    reports = str(folder.parent / "reports")
    result = CliRunner().invoke(app, ("validate", str(folder), "--pipeline", pipeline, "--report", reports, *options))
    return result.exit_code


def test_all_planted_faults_are_found_and_nothing_else(folder: Path) -> None:
    planted = global_econ_data.write_demo(folder)

    assert validate(folder) == 1

    report = msgspec.json.decode((folder.parent / "reports" / f"{NAME}.json").read_bytes())
    assert validate_demo.differences(planted, report) == []
    assert len({fault.rule for fault in planted}) == 11
    assert (report["files_processed"], report["rows_read"], report["rows_invalid"]) == (2, 714, 7)
    assert (folder.parent / "reports" / f"{NAME}.md").is_file()
    assert report["pipeline"]["file"] == "pipelines/examples/global_econ.toml"


def test_a_fault_that_was_not_planted_and_one_that_is_missed_are_told(folder: Path) -> None:
    planted = global_econ_data.write_demo(folder)
    validate(folder)
    report = msgspec.json.decode((folder.parent / "reports" / f"{NAME}.json").read_bytes())

    (line,) = validate_demo.differences(planted[1:], report)
    assert line.startswith("found and not planted: ('latest.json', 'type'")

    del report["files"][0]["problems"][0]
    (line,) = validate_demo.differences(planted, report)
    assert line.startswith("planted and not found: ('indicators.csv', 'max'")


def test_the_data_without_faults_is_valid(folder: Path) -> None:
    rows = [row for row in global_econ_data.table() if row[0] != "FJ"]
    global_econ_data.write_csv(folder / "indicators.csv", rows)

    assert len(rows) == 19 * 30
    assert validate(folder, "--fail-on", "warning") == 0


def test_the_data_is_the_same_each_time(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        global_econ_data.write_demo(tmp_path / name)
        contents.append([path.read_bytes() for path in sorted((tmp_path / name).iterdir())])

    assert contents[0] == contents[1]
