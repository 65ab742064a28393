"""Lint the files beside a pipeline file: schemas, lists, exponents. Pure."""

import csv
import re
from collections.abc import Iterator
from typing import Final

import msgspec

from shared.pipelines.contract import SchemaError, compile_schema
from shared.pipelines.document.names import file_name_problem
from shared.pipelines.document.problems import ReadFile, Steps
from shared.pipelines.linting.issues import Issue, unknown_name
from shared.pipelines.model import ListFile, Pipeline
from shared.pipelines.values.money import HUNDREDTHS, ISO, ExponentsError, currencies, wire_exponents

FILE_BYTES_MAX: Final = 1 << 20
_DRAFT: Final = re.compile(r"https?://json-schema\.org/draft/2020-12/schema#?")
_NOT_LINEAR: Final = re.compile(r"\(\?(?:=|!|<=|<!)|\\[1-9]|\\k<")
_REFERENCES: Final = ("$ref", "$dynamicRef")
_SUBSCHEMAS_MAX: Final = 100_000
_HEADER_CHARS_MAX: Final = 100_000


def named_files(pipeline: Pipeline) -> Iterator[tuple[Steps, str]]:
    """Yield the files that a pipeline names beside those that it includes, with the key paths that name them."""
    if pipeline.contract.schema is not None:
        yield ("contract", "schema"), pipeline.contract.schema
    if not is_profile(pipeline.money.exponents):
        yield ("money", "exponents"), pipeline.money.exponents
    for number, table in enumerate(pipeline.table):
        for name, column in table.columns.items():
            if column.exponents is not None and not is_profile(column.exponents):
                yield ("table", number, "columns", name, "exponents"), column.exponents
    for number, check in enumerate(pipeline.file_check):
        if check.in_ is not None:
            yield ("file_check", number, "in", "list"), check.in_.list


def is_profile(name: str) -> bool:
    """Tell whether minor units of that name are known without a file."""
    return name in {ISO, HUNDREDTHS, *currencies().profiles}


def file_issues(pipeline: Pipeline, read: ReadFile) -> Iterator[Issue]:
    """Yield what is wrong with the files that a pipeline names: their names, whether they are there, what they hold."""
    lists = {("file_check", n, "in", "list"): check.in_ for n, check in enumerate(pipeline.file_check) if check.in_}
    for steps, name in named_files(pipeline):
        is_exponents = steps[-1] == "exponents"
        content = None if file_name_problem(name) else read(name)
        if content is None:
            yield Issue(steps, _absent(name, is_exponents=is_exponents))
        elif len(content) > FILE_BYTES_MAX:
            yield Issue(steps, f"{name} is larger than 1 MiB")
        elif is_exponents:
            yield from _exponents_issues(steps, name, content)
        elif steps in lists:
            yield from _list_issues(steps, lists[steps], content)
        else:
            yield from _schema_issues(steps, name, content)


def _absent(name: str, *, is_exponents: bool) -> str:
    detail = file_name_problem(name) or "is not there"
    if not is_exponents or "." in name:
        return f"{name[:200]!r} {detail}"
    return (
        unknown_name("profile of minor units", name, [ISO, HUNDREDTHS, *currencies().profiles]) + ", and no such file"
    )


def _exponents_issues(steps: Steps, name: str, content: bytes) -> Iterator[Issue]:
    try:
        wire_exponents(name, {name: content})
    except ExponentsError as error:
        yield Issue(steps, f"{name} {error}")
    except (ValueError, RecursionError):
        yield Issue(steps, f"{name} cannot be read")


def _list_issues(steps: Steps, listed: ListFile, content: bytes) -> Iterator[Issue]:
    header = _header_of(content)
    if header is None:
        yield Issue(steps, f"{listed.list} is no CSV file in UTF-8")
    elif listed.column not in header:
        yield Issue((*steps[:-1], "column"), unknown_name(f"column in {listed.list}:", listed.column, header))


def _header_of(content: bytes) -> list[str] | None:
    """Return the names of the columns of a CSV file, or None where it is none."""
    try:
        first = content.decode("utf-8-sig").partition("\n")[0].rstrip("\r")
        return next(csv.reader([first]), []) if len(first) <= _HEADER_CHARS_MAX else None
    except (UnicodeDecodeError, csv.Error):
        return None


def _schema_issues(steps: Steps, name: str, content: bytes) -> Iterator[Issue]:
    try:
        schema = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        yield Issue(steps, f"{name} is no JSON")
        return
    if not isinstance(schema, dict):
        yield Issue(steps, f"{name} is no JSON Schema; it must be an object")
        return
    draft = schema.get("$schema")
    if draft is not None and not (isinstance(draft, str) and _DRAFT.fullmatch(draft)):
        yield Issue(steps, f"{name} is of another draft of JSON Schema than 2020-12")
        return
    details = list(dict.fromkeys(_schema_details(schema)))
    for detail in details or _use_details(content):
        yield Issue(steps, f"{name} {detail}")


def _use_details(content: bytes) -> Iterator[str]:
    try:
        compile_schema("", content)
    except SchemaError as error:
        yield str(error)


def _schema_details(schema: object) -> Iterator[str]:
    rest: list[object] = [schema]
    for _ in range(_SUBSCHEMAS_MAX):
        if not rest:
            return
        part = rest.pop()
        if isinstance(part, list):
            rest.extend(part)
        elif isinstance(part, dict):
            yield from _part_details(part)
            rest.extend(part.values())
    yield "has too many parts"


def _part_details(part: dict[str, object]) -> Iterator[str]:
    for key in _REFERENCES:
        target = part.get(key)
        if isinstance(target, str) and not target.startswith("#"):
            yield f"refers to {target[:80]}; only parts of the same file (#/…) are looked up, and nothing is fetched"
    named = part.get("patternProperties")
    patterns = [part.get("pattern"), *(named if isinstance(named, dict) else ())]
    for pattern in patterns:
        if isinstance(pattern, str) and _NOT_LINEAR.search(pattern):
            yield "has a pattern with look-around or a back reference, which could take for ever"
