"""The canonical bytes of a version of a pipeline: the files that it names, and their SHA-256. Pure."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from shared.pipelines.document.lines import key_lines, line_of
from shared.pipelines.document.names import file_name_problem
from shared.pipelines.document.problems import FileProblem, ReadFile, path_text
from shared.pipelines.document.reading import read_pipeline
from shared.pipelines.linting.files import named_files
from shared.pipelines.linting.issues import Issue
from shared.pipelines.linting.pipeline import TABLES_MAX
from shared.pipelines.linting.tables import COLUMNS_MAX
from shared.pipelines.model import Pipeline

BUNDLE_BYTES_MAX: Final = 1 << 20
"""Of all files of a version together."""

_FORMAT: Final = 1
_OWN_KEYS: Final = frozenset({"format", "file", "files"})


class Bundle(msgspec.Struct, frozen=True):
    """A version: its content as canonical bytes (JSON in UTF-8, keys sorted), and their SHA-256 in hexadecimal digits.

    `file` is the name of the pipeline file; `files` are the texts of it and of those that it names, with line feeds.
    `facts` are what decides a result beside the files, as the dates of the currencies and zones, or the id of a key.
    """

    file: str
    files: dict[str, str]
    facts: dict[str, str]
    content: bytes
    sha256: str

    def read(self, name: str) -> bytes | None:
        """Return the content of a file of the version."""
        text = self.files.get(name)
        return None if text is None else text.encode()

    @property
    def contents(self) -> dict[str, bytes]:
        """The contents of the files, by their names."""
        return {name: text.encode() for name, text in self.files.items()}


class BundleError(ValueError):
    """The bytes are no canonical bytes of a version; the message says why."""


def make_bundle(
    name: str, read: ReadFile, facts: Mapping[str, str] | None = None
) -> tuple[Bundle | None, tuple[FileProblem, ...]]:
    """Return the bundle of a pipeline file, or None and the problems that keep it from being one.

    Line ends become line feeds, so a version is the same wherever its files were checked out. What the parts mean is
    not looked at; see `lint`. Raises ValueError where a fact has the name of another part of a version.
    """
    if taken := _OWN_KEYS & (facts or {}).keys():
        raise ValueError(f"no fact can be named {', '.join(sorted(taken))}")
    if detail := file_name_problem(name):
        return None, (FileProblem("", None, "error", f"{name[:200]!r} {detail}", name),)
    pipeline, problems = read_pipeline(name, read)
    if pipeline is None:
        return None, problems
    files: dict[str, str] = {}
    issues = [*_size_issues(pipeline), *_gather(name, pipeline, read, files)]
    if issues:
        return None, _located(name, files[name], issues)
    return _bundle(name, files, dict(facts or {})), ()


def open_bundle(content: bytes) -> Bundle:
    """Return the bundle that canonical bytes hold. Raises BundleError."""
    try:
        known = msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError("are no JSON object") from error
    if known.get("format") != _FORMAT:
        raise BundleError(f"are of a format that is not known here; it knows {_FORMAT}")
    try:
        file = msgspec.convert(known.get("file"), str)
        files = msgspec.convert(known.get("files"), dict[str, str])
        facts = msgspec.convert({key: each for key, each in known.items() if key not in _OWN_KEYS}, dict[str, str])
    except msgspec.ValidationError as error:
        raise BundleError("lack a part, or have one that is no text") from error
    opened = _bundle(file, files, facts)
    if opened.content != content:
        raise BundleError("are not in the canonical order")
    return opened


def _bundle(file: str, files: dict[str, str], facts: dict[str, str]) -> Bundle:
    parts = {"format": _FORMAT, "file": file, "files": files, **facts}
    content = msgspec.json.encode(parts, order="deterministic")
    return Bundle(file, files, facts, content, hashlib.sha256(content).hexdigest())


def _size_issues(pipeline: Pipeline) -> Iterator[Issue]:
    if len(pipeline.table) > TABLES_MAX:
        yield Issue(("table",), f"there are more than {TABLES_MAX} tables")
    for number, table in enumerate(pipeline.table):
        if len(table.columns) > COLUMNS_MAX:
            yield Issue(("table", number, "columns"), f"has more than {COLUMNS_MAX} columns")


def _gather(name: str, pipeline: Pipeline, read: ReadFile, files: dict[str, str]) -> Iterator[Issue]:
    """Put the text of each file into `files`, and yield what keeps one out."""
    included = ((("include", number), other) for number, other in enumerate(pipeline.include))
    size = 0
    for steps, other in (((), name), *included, *named_files(pipeline)):
        if other in files:
            continue
        content = None if steps and file_name_problem(other) else read(other)
        if content is None:
            yield Issue(steps, f"{other[:200]!r} {file_name_problem(other) or 'is not there'}")
            continue
        size += len(content)
        if size > BUNDLE_BYTES_MAX:
            yield Issue(steps, "with this file, those of the pipeline are larger than 1 MiB together")
            return
        try:
            files[other] = content.decode().replace("\r\n", "\n")
        except UnicodeDecodeError:
            yield Issue(steps, f"{other} is no UTF-8")


def _located(name: str, text: str, issues: list[Issue]) -> tuple[FileProblem, ...]:
    lines = key_lines(text)
    return tuple(
        FileProblem(path_text(issue.steps), line_of(lines, issue.steps), issue.level, issue.detail, name)
        for issue in issues
    )
