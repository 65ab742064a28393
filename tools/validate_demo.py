"""`make validate-demo`: validates files with planted faults, and tells whether just those were found.

Writes reports/global_econ_validation_report.json, .md and .svg. Ends with 0 where each planted fault was found and
nothing else, although the files are not valid.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from global_econ_data import Planted, write_demo

ROOT = Path(__file__).resolve().parents[1]
REPORTS = Path("reports")
PIPELINE = "pipelines/examples/global_econ.toml"
NOT_VALID = 1
Found = tuple[str, str, str, str, int, tuple[int, ...]]


def main() -> int:
    """Return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        planted = write_demo(Path(folder))
        options = (folder, "--pipeline", PIPELINE, "--report", str(REPORTS))
        command = (sys.executable, "-m", "etlpay_cli", "validate", *options)
        done = subprocess.run(command, cwd=ROOT, check=False)  # noqa: S603 - our own program
    if done.returncode != NOT_VALID:
        print(f"etlpay validate ended with {done.returncode}, and not with {NOT_VALID}, which says: not valid")
        return 1
    report = msgspec.json.decode((ROOT / REPORTS / "global_econ_validation_report.json").read_bytes())
    wrong = differences(planted, report)
    for line in wrong:
        print(line)
    if not wrong:
        print(f"Not valid, as planned: all {len(planted)} planted faults were found, and nothing else.")
    return 1 if wrong else 0


def differences(planted: list[Planted], report: dict[str, Any]) -> list[str]:
    """Return what was planted and not found, and what was found and not planted."""
    found = {_found(file["name"], problem) for file in report["files"] for problem in file["problems"]}
    expected = {(*each[:-1], tuple(each.places[:20])) for each in planted}
    missed = [f"planted and not found: {each}" for each in sorted(expected - found)]
    return missed + [f"found and not planted: {each}" for each in sorted(found - expected)]


def _found(file: str, problem: dict[str, Any]) -> Found:
    places = tuple(problem.get("places", ()))
    return (file, problem["rule"], problem["column"], problem["level"], problem["rows"], places)


if __name__ == "__main__":
    sys.exit(main())
