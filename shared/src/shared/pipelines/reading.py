"""Read a pipeline file: TOML bytes, and the files beside it, to a `Pipeline` or to problems. Pure."""

import tomllib
from decimal import Decimal

import msgspec

from shared.pipelines.file_problems import FileProblem, ReadFile
from shared.pipelines.model import Pipeline

__all__ = ["FileProblem", "ReadFile", "read_pipeline"]


def read_pipeline(name: str, read: ReadFile) -> tuple[Pipeline | None, tuple[FileProblem, ...]]:
    """Return the pipeline of a file, or None and every problem that it has.

    `read` gives the content of a file by its name, as it stands in the pipeline file.
    """
    content = read(name)
    if content is None:
        return None, (FileProblem("", None, "error", "there is no such file", name),)
    try:
        document = tomllib.loads(content.decode(), parse_float=Decimal)
        for table in document.get("table", ()):
            columns = table.get("columns", {})
            table["columns"] = {key: {"from": each} if isinstance(each, str) else each for key, each in columns.items()}
        return msgspec.convert(document, Pipeline), ()
    except (ValueError, AttributeError, msgspec.ValidationError) as error:
        return None, (FileProblem("", None, "error", str(error), name),)
