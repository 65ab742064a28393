"""Files of a case and the events in them: how they are made, dropped, cut and followed."""

import gzip
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import zstandard

from faults.harness.case import Context
from faults.harness.drop import drop_content
from faults.harness.journal import Answer, Attempt, Sent
from support.waiting import until_true

_DONE_SECONDS_MAX: Final = 60.0


def named_rows(context: Context, name: str, count: int) -> list[Sent]:
    """Return events that are rows of JSON, each with an id of its own in it."""
    journal = context.load.journal
    rows = [journal.new(name) for _ in range(count)]
    for sent in rows:
        sent.first.body = journal.content(id=sent.key)
    return rows


def unnamed_rows(context: Context, name: str, count: int) -> list[Sent]:
    """Return events that are rows of JSON without an id: they are found again by their content."""
    rows = [context.load.journal.new(name) for _ in range(count)]
    for sent in rows:
        sent.key = ""
    return rows


def csv_rows(context: Context, name: str, count: int, *, named: bool) -> list[Sent]:
    """Return events that are rows of CSV, the amount last, each with an id of its own in it or none."""
    journal = context.load.journal
    rows = [journal.new(name) for _ in range(count)]
    for sent in rows:
        sent.make_csv(journal.record(), named=named)
    return rows


def content_of(rows: Sequence[Sent]) -> bytes:
    """Return the content of a file of these rows, all of one kind."""
    header = rows[0].csv_header
    return b"".join(line + b"\n" for line in ([header] if header else []) + [sent.line for sent in rows])


def gzipped(content: bytes, *, made_at: int) -> bytes:
    """Return a content as gzip packs it at a moment: the moment is a part of the packed bytes."""
    return gzip.compress(content, mtime=made_at)


def zstd(content: bytes) -> bytes:
    """Return a content as zstd packs it."""
    return zstandard.ZstdCompressor().compress(content)


class Dropped:
    """One file of a case, wherever it is by now."""

    def __init__(self, context: Context, source: str, name: str) -> None:
        """`source` is what follows the case's own in the name of the folder."""
        self.name = name
        self._context = context
        self._source = f"{context.load.journal.source}.{source}"

    def at(self, state: str) -> Path:
        """Return where the file is while it is in inbox/, work/, done/ or failed/."""
        return self._context.world.layout.files / state / self._source / self.name

    @property
    def done(self) -> Path:
        """Where it is when every row of it was taken or rejected."""
        return self.at("done")

    @property
    def rejects(self) -> Path:
        """The list of the rejected rows of a file that is done."""
        return self.done.with_name(f"{self.name}.rejects.ndjson")

    def drop(self, content: bytes) -> None:
        """Write it beside the inbox and rename it in. Blocking."""
        drop_content(self.at("inbox").parent, self.name, content)

    def write(self, content: bytes) -> None:
        """Write it under its own name, as an upload does. Blocking."""
        self.at("inbox").parent.mkdir(parents=True, exist_ok=True)
        append(self.at("inbox"), content)

    async def filed(self, seconds_max: float = 30.0) -> Path | None:
        """Return where it is in done/ or failed/, or None: it is not there in time."""
        places = (self.done, self.at("failed"))
        await until_true(lambda: any(place.exists() for place in places), seconds_max)
        return next((place for place in places if place.exists()), None)


def append(path: Path, content: bytes) -> None:
    """Go on in a file. Blocking."""
    _write(path, content, "ab")


def rewrite(path: Path, content: bytes) -> None:
    """Cut a file to nothing, and write another content into it. Blocking."""
    _write(path, content, "wb")


def _write(path: Path, content: bytes, mode: str) -> None:
    with path.open(mode) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def accept(context: Context, rows: Sequence[Sent]) -> None:
    """Count rows as acknowledged."""
    for sent in rows:
        context.load.journal.learn(Attempt(sent, sent.first), Answer.ACCEPTED)


async def accepted(
    context: Context, rows: Sequence[Sent], is_done: Callable[[], bool], seconds_max: float = _DONE_SECONDS_MAX
) -> None:
    """Count the rows as acknowledged once they are done; a file that does not end is a problem."""
    if await until_true(is_done, seconds_max):
        accept(context, rows)
    else:
        context.problems.append("a file is not done")
