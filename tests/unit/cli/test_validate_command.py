"""`etlpay validate` tells whether whole files are as a pipeline says, writes reports, and shows no value unasked."""

import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree import ElementTree as ET

import msgspec
import pytest
import zstandard
from typer.testing import CliRunner, Result

from etlpay_cli.__main__ import app

PIPELINE = """\
etlpay = 1
name   = "figures"
source = "figures-*"

[mask]
"mail" = "domain"

[[table]]
name   = "figures"
[table.columns]
country = { from = "country", required = true }
year    = { from = "year", type = "integer", max = 2100 }
amount  = { from = "amount", type = "decimal" }
mail    = "mail"

[[file_check]]
unique = ["country", "year"]

[[file_check]]
filled = "amount"
share  = 0.5
level  = "warning"
"""
GOOD = "country,year,amount,mail\nDE,2020,1.5,ana@example.com\nNO,2021,2,\n"
KEYS = [
    *("report", "valid", "pipeline", "files_total", "files_processed", "read_errors", "rows_read", "rows_valid"),
    *("rows_invalid", "start_time", "end_time", "duration_seconds", "files"),
]

Run: TypeAlias = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that is no checkout, with a pipeline file and a folder of files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "figures.toml").write_text(PIPELINE)
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


@pytest.fixture
def run() -> Run:
    """Return what runs the command over the folder of files."""

    def call(*options: str, path: str = "files") -> Result:
        return CliRunner().invoke(app, ("validate", path, "--pipeline", "figures", *options))

    return call


def report_of(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(result.stdout)
    return found


def test_valid_files_end_with_0_and_the_keys_of_the_report_are_those_of_the_page(folder: Path, run: Run) -> None:
    (folder / "a.csv").write_text(GOOD)

    result = run("--json")

    assert result.exit_code == 0, result.output
    report = report_of(result)
    assert list(report) == KEYS
    assert (report["valid"], report["rows_read"], report["rows_valid"], report["rows_invalid"]) == (True, 2, 2, 0)
    assert (report["files_total"], report["files_processed"], report["read_errors"]) == (1, 1, 0)
    assert report["pipeline"]["file"] == "pipelines/figures.toml"
    assert re.fullmatch(r"[0-9a-f]{64}", report["pipeline"]["sha256"])
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", report["start_time"])
    (file,) = report["files"]
    assert (file["name"], file["problems"], file["totals"]) == ("a.csv", [], [])
    assert file["columns"] == {"known": 4, "absent": [], "unknown": []}
    assert file["profile"]["country"] == {"type": "text", "filled": 1.0, "distinct": 2}


def test_a_warning_fails_only_where_it_is_asked_for(folder: Path, run: Run) -> None:
    (folder / "a.csv").write_text("country,year,amount,mail\nDE,2020,,\nNO,2021,,\nNO,2022,1,\n")

    assert run().exit_code == 0
    assert run("--fail-on", "error").exit_code == 0
    result = run("--fail-on", "warning", "--json")
    assert result.exit_code == 1
    assert report_of(result)["valid"] is False


def test_every_file_of_a_folder_is_read_sorted_and_what_is_none_is_passed_over(folder: Path, run: Run) -> None:
    (folder / "b.csv.gz").write_bytes(gzip.compress(GOOD.encode()))
    (folder / "a.csv.zst").write_bytes(zstandard.compress(GOOD.encode()))
    (folder / "c.json").write_bytes(b'[{"country": "DE", "year": 1}, {"country": "DE", "year": 2, "amount": 1}]')
    (folder / "d.ndjson").write_bytes(b'{"country": "DE", "amount": "1"}\n')
    (folder / "notes.txt").write_text("no file of rows")
    (folder / ".hidden.csv").write_text("x")
    (folder / "below.csv").mkdir()

    report = report_of(run("--json"))

    assert [(file["name"], file["rows_valid"]) for file in report["files"]] == [
        ("a.csv.zst", 2),
        ("b.csv.gz", 2),
        ("c.json", 2),
        ("d.ndjson", 1),
    ]
    assert report["valid"]


def test_each_file_is_looked_at_alone(folder: Path, run: Run) -> None:
    for name in ("a.csv", "b.csv"):
        (folder / name).write_text(GOOD)

    assert run().exit_code == 0


def test_a_report_is_written_without_values_and_without_paths_of_the_machine(folder: Path, run: Run) -> None:
    (folder / "a.csv").write_text(GOOD + "secret,2101,3,x\nsecond,1,,y\nsecond,1,,y\n")

    result = run("--report", "reports")

    assert result.exit_code == 1
    texts = {path.name: path.read_text() for path in Path("reports").iterdir()}
    assert sorted(texts) == [f"figures_validation_report.{kind}" for kind in ("json", "md", "svg")]
    for text in texts.values():
        assert "secret" not in text
        assert "second" not in text.replace("seconds", "")
        assert str(folder.parent) not in text
    assert "| error | max | year | 1 | 4 |" in texts["figures_validation_report.md"]
    assert "| error | unique | country, year | 1 | 6 (first in 5) |" in texts["figures_validation_report.md"]
    assert msgspec.json.decode(texts["figures_validation_report.json"])["rows_invalid"] == 1


def test_the_picture_says_what_it_shows_and_is_only_there_where_a_column_is_not_full(folder: Path, run: Run) -> None:
    picture = Path("reports/figures_validation_report.svg")
    (folder / "a.csv").write_text(GOOD)
    run("--report", "reports")

    svg = ET.fromstring(picture.read_text())  # noqa: S314 - our own picture

    name = "{http://www.w3.org/2000/svg}"
    assert svg.get("role") == "img"
    assert svg.get("aria-labelledby") == "title desc"
    assert svg.findtext(f"{name}title") == "figures: rows that have a value"
    assert svg.findtext(f"{name}desc") == "mail 50.0 %"
    assert "prefers-color-scheme:dark" in (svg.findtext(f"{name}style") or "")

    (folder / "a.csv").write_text("country,year,amount,mail\nDE,2020,1.5,ana@example.com\n")
    run("--report", "reports")
    assert not picture.exists()
    assert "svg" not in Path("reports/figures_validation_report.md").read_text()


def test_values_are_shown_masked(folder: Path, run: Run) -> None:
    rows = "DE,two,1,ana@example.com\n,2020,1,bob@example.org\nDE,2150,x,eve@example.net\n"
    (folder / "a.csv").write_text(f"country,year,amount,mail\n{rows}")

    result = run("--show-values", "--json")

    problems = {
        (each["rule"], each["column"]): each.get("values") for each in report_of(result)["files"][0]["problems"]
    }
    assert problems == {
        ("type", "year"): ["two"],
        ("missing", "country"): [""],
        ("max", "year"): ["2150"],
        ("type", "amount"): ["x"],
    }
    assert "ana@" not in result.stdout


def test_a_value_at_a_masked_place_is_not_shown(folder: Path, run: Run) -> None:
    masked = PIPELINE.replace('"mail" = "domain"', '"amount" = "last4"\n"country" = "last4"')
    masked += '\n[[file_check]]\nlisted = "country"\nin = { list = "countries.csv", column = "iso2" }\n'
    Path("pipelines/figures.toml").write_text(masked.replace('type = "decimal"', 'values = ["1"]'))
    Path("pipelines/countries.csv").write_text("iso2\nDE\n")
    (folder / "a.csv").write_text("country,year,amount,mail\nlong-secret-country,1,1,\nDE,2,secret-amount,\n")

    result = run("--show-values", "--json", "--report", "reports")

    assert result.exit_code == 1, result.output
    problems = {each["rule"]: each["values"] for each in report_of(result)["files"][0]["problems"]}
    assert problems == {"value": ["ount"], "listed": ["ntry"]}
    assert "secret" not in result.stdout
    assert "secret" not in Path("reports/figures_validation_report.md").read_text()


def test_places_are_as_many_as_asked_for(folder: Path, run: Run) -> None:
    (folder / "a.csv").write_text("country,year,amount,mail\n" + "DE,x,1,\n" * 50)

    (problem,) = report_of(run("--places", "2", "--json"))["files"][0]["problems"]

    assert (problem["rows"], problem["places"]) == (50, [2, 3])


@pytest.mark.parametrize(
    ("options", "detail"),
    [
        (("--pipeline", "nobody"), "there is no such pipeline in pipelines"),
        (("--pipeline", "pipelines/none.toml"), "there is no such file"),
        (("--source", "figure"), "is of figures-*, not of figure"),
        (("--source", "figures-" + "x" * 300), "the source"),
        (("--formats", "none.toml"), "the file of formats cannot be read"),
    ],
)
def test_what_cannot_be_begun_ends_with_2(folder: Path, run: Run, options: tuple[str, ...], detail: str) -> None:
    (folder / "a.csv").write_text(GOOD)

    result = run(*options)

    assert result.exit_code == 2
    assert detail in " ".join(result.stderr.split())


def test_a_folder_without_files_a_missing_one_and_a_broken_pipeline_end_with_2(folder: Path, run: Run) -> None:
    assert run().exit_code == 2
    assert run(path="nowhere").exit_code == 2
    (folder / "a.csv").write_text(GOOD)
    Path("pipelines/figures.toml").write_text(PIPELINE.replace('unique = ["country"', 'unique = ["county"'))
    result = run()
    assert result.exit_code == 2
    assert "did you mean country?" in " ".join(result.stderr.split())


def test_the_formats_of_a_source_count(folder: Path, run: Run) -> None:
    (folder / "a.csv").write_bytes("above\ncountry;year;amount;mail\nÖsterreich;1;1;".encode("cp1252"))
    Path("formats.toml").write_text(
        '["figures-*"]\ndelimiter = ";"\nencoding = "windows-1252"\nskip_lines = 1\nlast_row = "accept"\n'
    )

    assert run().exit_code == 2
    result = run("--formats", "formats.toml", "--source", "figures-at", "--json")
    assert result.exit_code == 0, result.output
    assert report_of(result)["rows_valid"] == 1


def test_a_report_that_cannot_be_written_ends_with_2(folder: Path, run: Run) -> None:
    (folder / "a.csv").write_text(GOOD)
    Path("reports").write_text("a file where the folder should be")

    assert run("--report", "reports").exit_code == 2


def test_nothing_that_a_terminal_would_obey_is_printed(folder: Path, run: Run) -> None:
    Path("pipelines/figures.toml").write_text(PIPELINE + '\n[drift]\nunknown_member = "note"\n')
    (folder / "a.json").write_bytes(b'[{"country": "DE", "\\u001b[2J": 1}, {"country": "NO", "year": "\\u001b"}]')

    result = run("--show-values")

    assert result.exit_code == 1
    assert "unknown_member" in result.output
    assert "\x1b" not in result.output


def test_a_member_that_is_not_read_is_named_and_its_value_never_shown(folder: Path, run: Run) -> None:
    Path("pipelines/figures.toml").write_text(PIPELINE + '\n[drift]\nunknown_member = "fail"\n')
    (folder / "a.csv").write_text("country,year,amount,mail,card\nDE,1,1,,secret\n")

    result = run("--show-values", "--json")

    (problem,) = report_of(result)["files"][0]["problems"]
    assert (problem["rule"], problem["column"], problem["level"]) == ("unknown_member", "card", "error")
    assert "secret" not in result.stdout
