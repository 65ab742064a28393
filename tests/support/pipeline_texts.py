"""Pipeline files as texts, and what is said of them."""

from collections.abc import Iterable, Mapping

from shared.pipelines.document.problems import FileProblem, ReadFile
from shared.pipelines.document.reading import read_pipeline
from shared.pipelines.linting.pipeline import lint
from shared.pipelines.model import Pipeline

FILE = "shop.toml"
HEAD = 'etlpay = 1\nname = "shop"\nsource = "shop"\n'
TABLE = HEAD + '[[table]]\nname = "orders"\n'
COLUMNS = TABLE + "[table.columns]\n"
LATEST = (
    HEAD
    + '[[table]]\nname = "orders"\nmode = "latest"\nkey = ["id"]\nnewest = "as_of"\n'
    + '[table.columns]\nid = "/id"\nas_of = { from = "/at", type = "timestamp" }\n'
)


def reader(text: str, files: Mapping[str, str | bytes] | None = None) -> ReadFile:
    """Return what reads the pipeline file and those beside it."""
    known = {FILE: text, **(files or {})}

    def read(name: str) -> bytes | None:
        content = known.get(name)
        return content.encode() if isinstance(content, str) else content

    return read


def read_text(
    text: str, files: Mapping[str, str | bytes] | None = None
) -> tuple[Pipeline | None, tuple[FileProblem, ...]]:
    """Read a pipeline file."""
    return read_pipeline(FILE, reader(text, files))


def pipeline_of(text: str, files: Mapping[str, str | bytes] | None = None) -> Pipeline:
    """Read a pipeline file that has no problems."""
    pipeline, problems = read_text(text, files)
    assert pipeline is not None, problems
    return pipeline


def lint_text(text: str, files: Mapping[str, str | bytes] | None = None) -> tuple[FileProblem, ...]:
    """Read a pipeline file whose types are right, and lint it."""
    return lint(pipeline_of(text, files), reader(text, files), FILE)


def assert_told(problems: Iterable[FileProblem], path: str, detail: str, level: str = "error") -> None:
    """Check that there is exactly one problem, at a path, whose detail holds a text."""
    told = [(each.path, each.level, each.detail) for each in problems]
    assert [(path, level)] == [each[:2] for each in told], told
    assert detail in told[0][2]
