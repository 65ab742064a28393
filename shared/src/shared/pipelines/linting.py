"""Tell what the parts of a pipeline file mean together, and where that is wrong. Pure."""

from collections.abc import Iterable

from shared.pipelines.file_problems import FileProblem, ReadFile
from shared.pipelines.model import Pipeline


def lint(pipeline: Pipeline, read: ReadFile, file: str | None = None) -> tuple[FileProblem, ...]:
    """Return what is wrong or doubtful in a pipeline that was read.

    `read` gives the content of a file by its name; `file` is the name of the pipeline's own, for lines (by default
    the pipeline's name and `.toml`).
    """
    del pipeline, read, file
    return ()


def lint_together(pipelines: Iterable[Pipeline]) -> tuple[FileProblem, ...]:
    """Return what is wrong between pipelines that shall be active at once: sources and names that two of them have."""
    del pipelines
    return ()
