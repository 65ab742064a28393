"""Read a pipeline file: TOML bytes, and the files that it includes, to a `Pipeline` or to problems. Pure."""

import tomllib
from collections.abc import Iterable
from decimal import Decimal
from itertools import islice
from typing import Final

import msgspec

from shared.pipelines.document.lines import key_lines, line_of
from shared.pipelines.document.names import file_name_problem
from shared.pipelines.document.problems import PROBLEMS_MAX, FileProblem, ReadFile, path_text
from shared.pipelines.document.slips import expand_columns, move_misplaced_keys
from shared.pipelines.document.toml_errors import explain_toml_error
from shared.pipelines.document.types import Difference, differences
from shared.pipelines.document.words import Document, Included
from shared.pipelines.histories import complete_histories
from shared.pipelines.model import Pipeline

__all__ = ["FileProblem", "ReadFile", "read_pipeline"]

FILE_BYTES_MAX: Final = 1 << 20
INCLUDES_MAX: Final = 50

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class TomlError(ValueError):
    """The content is no TOML; `line` counts from 1, and is None where there is none to name."""

    def __init__(self, detail: str, line: int | None = None) -> None:
        super().__init__(detail)
        self.line = line


def read_pipeline(name: str, read: ReadFile) -> tuple[Pipeline | None, tuple[FileProblem, ...]]:
    """Return the pipeline of a file, or None and every problem that it has; never raises because of the content.

    `read` gives the content of a file by its name as it stands in the pipeline file, so relative to its folder. Tables,
    totals, joins and file checks of included files follow those of the file itself, in the order of `include`. A table
    that is `like` another has that one's columns before its own.
    """
    content = read(name)
    if content is None:
        return None, (FileProblem("", None, "error", "there is no such file", name),)
    document, problems = _read_document(name, content, Pipeline)
    included: list[Included] = []
    for number, other in enumerate(_includes(document)):
        detail = file_name_problem(other) or ("is this file itself" if other == name else None)
        text = None if detail else read(other)
        if text is None:
            detail = f"{other[:200]!r} {detail or 'is not there'}"
            problems += _located([Difference(("include", number), detail)], name, content)
            continue
        part, more = _read_document(other, text, Included)
        problems += more
        included += [] if more else [msgspec.convert(part, Included)]
    if problems:
        return None, problems
    return _joined(msgspec.convert(document, Pipeline), included), ()


def parse_toml(content: bytes) -> Document:
    """Return the document that TOML holds; numbers with a point are Decimals. Raises TomlError."""
    if len(content) > FILE_BYTES_MAX:
        raise TomlError("is larger than 1 MiB")
    if content.startswith(_BYTE_ORDER_MARK):
        raise TomlError("begins with a byte order mark; save it as UTF-8 without one", 1)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise TomlError("is no UTF-8", content.count(b"\n", 0, error.start) + 1) from None
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        line, detail = explain_toml_error(text, str(error))
        raise TomlError(detail, line) from None
    except RecursionError:
        raise TomlError("has lists or tables within each other, too deep to be read") from None
    except (ValueError, ArithmeticError):
        raise TomlError("holds a number that is too long") from None


def _read_document(
    name: str, content: bytes, expected: type[Pipeline | Included]
) -> tuple[Document, tuple[FileProblem, ...]]:
    """Return the document in its long form, empty where there is none, and what does not fit the types."""
    try:
        document = parse_toml(content)
    except TomlError as error:
        return {}, (FileProblem("", error.line, "error", str(error), name),)
    found = [*move_misplaced_keys(document)]
    expand_columns(document)
    found += islice(differences(document, expected), PROBLEMS_MAX)
    return document, _located(found, name, content)


def _located(found: Iterable[Difference], name: str, content: bytes) -> tuple[FileProblem, ...]:
    """Return problems with their lines."""
    found = list(found)
    lines = key_lines(content.decode()) if found else {}
    return tuple(FileProblem(path_text(steps), line_of(lines, steps), "error", detail, name) for steps, detail in found)


def _includes(document: Document) -> list[str]:
    names = document.get("include")
    return [each for each in names if isinstance(each, str)][:INCLUDES_MAX] if isinstance(names, list) else []


def _joined(pipeline: Pipeline, included: list[Included]) -> Pipeline:
    together = msgspec.structs.replace(
        pipeline,
        table=sum((part.table for part in included), pipeline.table),
        join=sum((part.join for part in included), pipeline.join),
        total=sum((part.total for part in included), pipeline.total),
        file_check=sum((part.file_check for part in included), pipeline.file_check),
    )
    return complete_histories(together)
