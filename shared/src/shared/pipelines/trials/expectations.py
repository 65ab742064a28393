"""The test file of a pipeline as types: events in, and the rows, problems and notes that must come out. Pure.

It stands beside the pipeline file: `stripe.toml`, `stripe.test.toml` and `samples/`.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

_HEADER: Final = re.compile(r"^[ \t]*\[\[[ \t]*test[ \t]*\]\]", re.MULTILINE)
_NAME: Final = re.compile(r"^[ \t]*name[ \t]*=.*$", re.MULTILINE)
_TOML_LINE: Final = re.compile(r" \(at line (\d+), column \d+\)| \(at end of document\)")
_INDEX: Final = re.compile(r"\$\.test\[(\d+)\]")

TextRow: TypeAlias = dict[str, str]
"""A row as text, by column."""

TextRows: TypeAlias = dict[str, tuple[TextRow, ...]]
"""Rows as text, by table."""

_Moment: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file."""


class ExpectedProblem(_Part, frozen=True):
    """A problem or note: its place in the payload, its code, and its cause where that is stated."""

    at: str
    code: str
    cause: str | None = None


class KnownOfEvent(_Part, frozen=True):
    """What is known of the events of a test beside their payloads; each has a default."""

    source: str | None = None
    id: str | None = None
    type: str | None = None
    channel: str | None = None
    file: str | None = None
    file_at: _Moment | None = None
    occurred_at: _Moment | None = None
    received_at: _Moment | None = None


class PipelineTest(_Part, frozen=True):
    """One test. `pick`: which events of the samples are taken, by number from 1. `change`: of each event taken.

    `order = "any"`: every order of the events must make the same rows. `rows`: exactly these rows of the tables
    named, and only the columns named. `fails` and `notes`: exactly these; without `notes` they are not looked at.
    """

    name: str
    event: str | None = None
    events: tuple[str, ...] = ()
    pick: tuple[int, ...] = ()
    order: Literal["given", "any"] = "given"
    delimiter: Annotated[str, msgspec.Meta(min_length=1, max_length=1)] | None = None
    change: dict[str, Any] = {}
    known: KnownOfEvent = KnownOfEvent()
    rows: dict[str, tuple[dict[str, str | int | bool], ...]] | None = None
    fails: tuple[ExpectedProblem, ...] = ()
    notes: tuple[ExpectedProblem, ...] | None = None

    @property
    def samples(self) -> tuple[str, ...]:
        """The sample files, in the order in which they arrive."""
        return (*([self.event] if self.event else []), *self.events)

    @property
    def states_nothing(self) -> bool:
        """It says neither which rows nor which problems must come out."""
        return self.rows is None and not self.fails and self.notes is None


MEANINGS: Final[Mapping[type[msgspec.Struct], Mapping[str, str]]] = {
    PipelineTest: {
        "name": "what the test says",
        "event": "a sample: a `.json`, `.ndjson` or `.csv` file",
        "events": "samples, in the order in which they arrive",
        "pick": "which events of the samples are taken, by number from 1",
        "order": "`any`: every order of the events must end in the same rows",
        "delimiter": "what separates the fields of a CSV sample, where it cannot be told",
        "change": "new values by place; `@null`: null, `@remove`: the member or column is taken away",
        "known": "what is known of the events beside their payloads",
        "rows": "by table, exactly these rows, and only these columns; values as text, `@null`: no value",
        "fails": "exactly these problems",
        "notes": "exactly these notes; left out: whichever there are",
    },
    KnownOfEvent: {
        "source": "`@source`",
        "id": "`@id`",
        "type": "`@type`",
        "channel": "`@channel`",
        "file": "`@file`",
        "file_at": "`@file_at`; else an hour later for each sample",
        "occurred_at": "`@occurred_at`",
        "received_at": "`@received_at`; else a second later for each event",
    },
    ExpectedProblem: {
        "at": "pointer to the value; empty: the event",
        "code": "code of the problem",
        "cause": "its cause",
    },
}
"""What each key of a file of tests means, as phrases, for docs/pipelines-reference.md."""


class _TestFile(_Part, frozen=True):
    test: tuple[PipelineTest, ...] = ()


class TestFileError(ValueError):
    """The file of tests cannot be read. `line` counts from 1; 0 where no line can be named."""

    __test__ = False  # a test runner takes it for a test otherwise

    def __init__(self, message: str, line: int = 0) -> None:
        """Keep the line."""
        super().__init__(message)
        self.line = line


def read_tests(data: bytes) -> tuple[PipelineTest, ...]:
    """Return the tests of a file. Raises TestFileError."""
    try:
        text = data.decode()
        tests = msgspec.convert(tomllib.loads(text, parse_float=Decimal), _TestFile).test
    except UnicodeDecodeError:
        raise TestFileError("is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        found = _TOML_LINE.search(str(error))
        line = int(found[1]) if found and found[1] else text.count("\n") + 1
        raise TestFileError(_TOML_LINE.sub("", str(error)), line) from None
    except msgspec.ValidationError as error:
        found = _INDEX.search(str(error))
        hint = '; write numbers with a point as text, as "1.50"' if "got `decimal`" in str(error) else ""
        raise TestFileError(str(error) + hint, lines_of_tests(text)[int(found[1])] if found else 0) from None
    _check_tests(tests, lines_of_tests(text))
    return tests


def lines_of_tests(text: str) -> list[int]:
    """Return the lines on which the tests begin, from 1."""
    return [text.count("\n", 0, found.start()) + 1 for found in _HEADER.finditer(text)]


def _check_tests(tests: tuple[PipelineTest, ...], lines: list[int]) -> None:
    if not tests:
        raise TestFileError("holds no [[test]]")
    names: set[str] = set()
    for number, test in enumerate(tests):
        line = lines[number] if number < len(lines) else 0
        if test.name in names:
            raise TestFileError(f"two tests are called {test.name!r}", line)
        names.add(test.name)
        if not test.samples:
            raise TestFileError(f'{test.name}: names no sample; write event = "samples/one.json"', line)


def with_expectations(text: str, made: Mapping[str, tuple[TextRows, tuple[ExpectedProblem, ...]]]) -> str:
    """Return the text of a test file with the rows and problems of the tests named, written at the end of each.

    What stands in the file stays as it is.
    """
    starts = [found.start() for found in _HEADER.finditer(text)]
    tests = tomllib.loads(text)["test"]
    parts = [text[: starts[0]]]
    for test, start, end in zip(tests, starts, [*starts[1:], len(text)], strict=True):
        block = text[start:end]
        if test["name"] in made:
            rows, fails = made[test["name"]]
            block = _with_line(block, _fails_line(fails) if fails else "" if any(rows.values()) else "rows = {}")
            block = "\n\n".join([block.rstrip(), *_row_blocks(rows)]) + ("\n\n" if end < len(text) else "\n")
        parts.append(block)
    return "".join(parts)


def _with_line(block: str, line: str) -> str:
    return _NAME.sub(lambda found: f"{found[0]}\n{line}", block, count=1) if line else block


def _fails_line(fails: Iterable[ExpectedProblem]) -> str:
    items = (
        f"    {{ at = {quote(each.at)}, code = {quote(each.code)}, cause = {quote(each.cause or '')} }},\n"
        for each in fails
    )
    return f"fails = [\n{''.join(items)}]"


def _row_blocks(rows: TextRows) -> Iterator[str]:
    for table, listed in rows.items():
        for row in listed:
            width = max((len(bare(name)) for name in row), default=0)
            cells = (f"{bare(name).ljust(width)} = {quote(value)}" for name, value in row.items())
            yield "\n".join((f"[[test.rows.{table}]]", *cells))


def quote(text: str) -> str:
    """Return a TOML string: as in JSON, with what TOML refuses escaped as well."""
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")


def bare(name: str) -> str:
    """Return a TOML key, in quotes where it needs them."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name, re.ASCII) else quote(name)
