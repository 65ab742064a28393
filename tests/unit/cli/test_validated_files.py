"""Files are read as file-watcher reads them: what it rejects or refuses is reported, and what it takes counts."""

import gzip
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
import zstandard

from etlpay_cli.pipeline_files import compile_file, read_file
from etlpay_cli.validation.reading import Job, validate_file
from etlpay_cli.validation.report import FileReport
from shared.files.limits import UsualLimits
from shared.pipelines.bundle import make_bundle

HEAD = "country,year,amount\n"
PIPELINE = """\
etlpay = 1
name   = "figures"
source = "figures"

[[table]]
name   = "figures"
[table.columns]
country = { from = "country", required = true }
year    = { from = "year", type = "integer" }
amount  = { from = "amount", type = "decimal" }
row     = { from = "@row", type = "integer" }
file    = { from = "@file", values = ["a.csv", "a.json", "a.ndjson", "a.csv.gz", "a.csv.zst"] }

[[file_check]]
unique = ["country", "year"]

[[file_check]]
ascending = "year"
by        = ["country"]

[[file_check]]
rows = { max = 1000000 }
"""

Check: TypeAlias = Callable[..., FileReport]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Return what validates a file of this name and content."""
    path = tmp_path / "figures.toml"
    path.write_text(PIPELINE)
    file = read_file(path)
    bundle, _ = make_bundle(path.name, file.read)
    assert bundle is not None
    job = Job(compile_file(file), bundle.contents, "figures")

    def validate(content: bytes | str, name: str = "a.csv", limits: UsualLimits | None = None) -> FileReport:
        target = tmp_path / name
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        return validate_file(target, name, job if limits is None else job._replace(limits=limits))

    return validate


def rules(report: FileReport) -> dict[tuple[str, str], tuple[int, ...]]:
    return {(each.rule, each.column): each.places for each in report.problems}


def test_rejected_rows_and_rows_with_problems_are_counted_and_the_others_are_valid(check: Check) -> None:
    report = check(HEAD + "DE,1,1\nDE,2\n,,\nDE,3,x\nDE,4,4\n")

    assert (report.rows_read, report.rows_valid, report.rows_invalid, report.rows_skipped) == (4, 2, 2, 1)
    assert rules(report) == {("fields", ""): (3,), ("type", "amount"): (5,)}


@pytest.mark.parametrize(
    ("row", "detail"),
    [
        (b"DE,2\n", "has 2 fields where the header has 3"),
        (b'DE,2,1"2\n', "has a quote within a field"),
        (b"DE,2,\xff\n", "must be UTF-8"),
        (b"DE,2,\x00\n", "holds U+0000"),
        (b"country,year,amount\n", "is the header once more"),
        (b"DE,2,25", "has no line end, so it may be cut off"),
        (b'DE,2,"25', "a quote is opened here and the file ends before it is closed"),
        (b"DE,2," + b"9" * 10_000_000 + b"\n", "is larger than 1048576 bytes"),
    ],
)
def test_each_kind_of_rejected_row_is_told_with_its_reason(check: Check, row: bytes, detail: str) -> None:
    report = check(HEAD.encode() + b"DE,1,1\n" + row)

    assert (report.rows_read, report.rows_valid, report.rows_invalid) == (2, 1, 1)
    (problem,) = report.problems
    assert (problem.rule, problem.level, problem.rows, problem.places) == ("fields", "error", 1, (3,))
    assert problem.detail.startswith(detail)


@pytest.mark.parametrize(
    ("row", "detail"),
    [
        (b"[1]", "must be a JSON object"),
        (b'{"country": "DE"', "must be valid JSON"),
        (b'{"id": [], "country": "DE"}', "/id must be a string or an integer"),
        (b'{"country": "\xff"}', "must be UTF-8"),
        (b'{"country": "DE", "note": "\\u0000"}', "holds U+0000"),
    ],
)
def test_a_line_of_json_that_is_no_event_is_told_with_its_reason(check: Check, row: bytes, detail: str) -> None:
    report = check(b'{"country": "DE"}\n' + row + b"\n", "a.ndjson")

    assert (report.rows_read, report.rows_valid) == (2, 1)
    assert [(each.rule, each.places) for each in report.problems] == [("fields", (2,))]
    assert report.problems[0].detail.startswith(detail)


@pytest.mark.parametrize(
    ("content", "name", "detail"),
    [
        (b"", "a.csv", "the file is empty"),
        (b"\n\n", "a.json", "the file is empty"),
        (b"[1, 2", "a.txt", "the name must end in"),
        ("country,year\nDE,1\n".encode("utf-16"), "a.csv", "the file is in UTF-16"),
        (b"country,country\nDE,1\n", "a.csv", "the header names a column twice"),
        (b"1,2,3\nDE,1,2\n", "a.csv", "the header looks like data"),
        (b"no gzip at all, but long enough", "a.csv.gz", "the compressed content is damaged"),
        (gzip.compress(HEAD.encode())[:-9], "a.csv.gz", "the compressed content is cut off"),
        (b'"text"', "a.json", "must be a JSON array"),
    ],
)
def test_a_file_that_the_file_watcher_refuses_cannot_be_read(
    check: Check, content: bytes, name: str, detail: str
) -> None:
    report = check(content, name)

    assert str(report.read_error).startswith(detail)
    assert report.rows_read == 0
    assert not report.is_valid("error")


def test_a_file_over_the_limit_cannot_be_read(check: Check) -> None:
    limits = UsualLimits(files_bytes_max=10)

    assert check(HEAD + "DE,1,1\n", limits=limits).read_error == "the file is larger than 10 bytes"


def test_what_was_read_before_the_rest_became_unreadable_is_reported(check: Check) -> None:
    packed = gzip.compress(HEAD.encode() + b"DE,x,1\n" * 50_000, compresslevel=0)

    report = check(packed[: len(packed) // 2], "a.csv.gz")

    assert str(report.read_error).startswith("after row ")
    assert report.rows_read > 10_000
    assert ("type", "year") in rules(report)


def test_another_header_in_the_middle_ends_the_reading(check: Check) -> None:
    report = check(HEAD + "DE,1,1\n" * 200 + "year,country,amount\n1,DE,1\n")

    assert str(report.read_error).startswith("after row 201: another header begins")


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_a_packed_file_is_read_like_its_content(check: Check, ending: str) -> None:
    content = (HEAD + "DE,1,1\nDE,1,2\nDE,0,2\n").encode()
    packed = {"": content, ".gz": gzip.compress(content), ".zst": zstandard.compress(content)}[ending]

    report = check(packed, f"a.csv{ending}")

    assert rules(report) == {("unique", "country, year"): (3,), ("ascending", "year by country"): (4,)}


def test_an_absent_column_is_told_once_and_by_its_rows(check: Check) -> None:
    report = check("country,years,amount\nDE,1,1\nDE,2,1\n")

    assert rules(report) == {("absent", "year"): (2, 3), ("unknown_member", "years"): (2, 3)}
    assert report.rows_invalid == 2
    assert report.columns
    assert (report.columns.known, report.columns.absent, report.columns.unknown) == (2, ("year",), ("years",))


def test_an_absent_column_is_told_of_a_file_without_rows_too(check: Check) -> None:
    report = check("country,amount\n")

    assert [(each.rule, each.column, each.level, each.rows) for each in report.problems] == [
        ("absent", "year", "error", 0)
    ]
    assert not report.is_valid("error")


def test_a_file_with_a_header_alone_and_an_empty_array_are_valid(check: Check) -> None:
    assert check(HEAD).is_valid("warning")
    assert check("[]", "a.json").is_valid("warning")


def test_an_array_is_numbered_by_its_elements_and_a_note_makes_nothing_invalid(check: Check) -> None:
    report = check('[{"country": "DE"},\n\n {"country": null}, {"country": "DE", "year": 1.5}]', "a.json")

    assert rules(report) == {("missing", "country"): (2,), ("type", "year"): (3,)}
    assert report.rows_valid == 1


def test_memory_does_not_grow_with_the_file(check: Check) -> None:
    """What grows is the 22 bytes a row of `unique`."""

    def peak(rows: int) -> int:
        content = HEAD + "".join(f"C{number % 50},{number},1.25\n" for number in range(rows))
        check(content)
        tracemalloc.start()
        check(content)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found - len(content)

    small, large = peak(2_000), peak(40_000)

    assert large - small < 38_000 * 22 * 1.5


def test_a_program_of_its_own_reads_a_long_file_in_the_memory_of_a_short_one(tmp_path: Path) -> None:
    (tmp_path / "figures.toml").write_text(PIPELINE.replace('unique = ["country", "year"]', 'filled = "year"'))
    script = (
        "import resource, sys\nfrom etlpay_cli.__main__ import app\n"
        "try:\n    app(['validate', sys.argv[1], '--pipeline', sys.argv[2]])\n"
        "except SystemExit as end:\n    assert end.code == 0, end.code\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )

    def peak_kib(rows: int) -> int:
        path = tmp_path / "a.csv"
        with path.open("w") as file:
            file.write(HEAD)
            file.writelines(f"C{number % 50},{number},1.25\n" for number in range(rows))
        command = (sys.executable, "-c", script, str(path), str(tmp_path / "figures.toml"))
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(done.stdout.split()[-1])

    assert peak_kib(200_000) - peak_kib(20_000) < 8 * 1024
