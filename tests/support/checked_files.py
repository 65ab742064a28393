"""Checks of whole files over given rows."""

from collections.abc import Iterable, Mapping, Sequence

from shared.pipelines.checking.file_checks import FileChecks, FileResult
from shared.pipelines.checking.violations import Showing, Violation
from shared.pipelines.document.reading import read_pipeline
from shared.pipelines.linting.pipeline import lint
from shared.pipelines.model import Pipeline
from shared.pipelines.program import Made, TypedRow, Value

HEAD = 'etlpay = 1\nname = "figures"\nsource = "figures"\n'
TABLE = """
[[table]]
name = "figures"
[table.columns]
country = "country"
year    = { from = "year", type = "integer" }
amount  = { from = "amount", type = "decimal" }
"""
LIST = {"countries.csv": "iso2,name\nDE,Germany\nNO,Norway\n"}


def pipeline_of(checks: str, files: Mapping[str, str] = LIST) -> Pipeline:
    """Return the pipeline of a table of country, year and amount with these checks; lint has nothing against it."""
    contents = {"figures.toml": HEAD + TABLE + checks, **files}

    def read(name: str) -> bytes | None:
        return contents[name].encode() if name in contents else None

    pipeline, problems = read_pipeline("figures.toml", read)
    assert pipeline is not None, problems
    assert [each for each in lint(pipeline, read, "figures.toml") if each.level == "error"] == []
    return pipeline


def check_rows(
    pipeline: Pipeline,
    rows: Iterable[Sequence[Value]],
    *,
    showing: Showing = Showing(),  # noqa: B008 - it is frozen
    files: Mapping[str, str] = LIST,
    first: int = 2,
) -> FileResult:
    """Return what the checks say of rows of the first table, which are numbered from `first`."""
    checks = FileChecks(pipeline, {name: text.encode() for name, text in files.items()}, showing)
    for place, values in enumerate(rows, first):
        checks.add(place, Made((TypedRow(0, 0, tuple(values)),)), 10)
    return checks.finish()


def violations(checks: str, rows: Iterable[Sequence[Value]]) -> tuple[Violation, ...]:
    """Return what checks say of rows of country, year and amount."""
    return check_rows(pipeline_of(checks), rows).problems
