"""Uploads that are appended to, stall, are cut, packed anew and resumed: every row once, and never a part of one."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from faults.harness.case import ALL_CHANNELS, Case, Context
from faults.harness.checks import read_ledger
from faults.harness.files import (
    Dropped,
    accept,
    accepted,
    append,
    content_of,
    csv_rows,
    gzipped,
    named_rows,
    unnamed_rows,
    zstd,
)
from faults.harness.journal import Sent
from support.supervisor import Child
from support.waiting import until_true

NO_FILES: Final = ALL_CHANNELS - {"file"}
"""So that the first file that passes a failpoint is the case's own."""
MID_FILE: Final = ("file-watcher", "file-watcher.mid_file:pause@2")
# More batches than may be in flight, so that some are confirmed, and some not yet read, when the watcher is paused.
_ROWS: Final = 5_000
_MORE_ROWS: Final = 200
# As much as is cut off of the last row: the end of its line, and digits of its amount.
_CUT_BYTES: Final = 4
_FILED_SECONDS_MAX: Final = 30.0


async def kill(watcher: Child) -> bool:
    """Kill -9; return whether it lived."""
    return await watcher.kill()


async def _terminate(watcher: Child) -> bool:
    """SIGTERM while it is paused; it finds it when it goes on."""
    watcher.send_signal(signal.SIGTERM)
    watcher.send_signal(signal.SIGCONT)
    return await watcher.end(signal.SIGTERM)


def appended(end: Callable[[Child], Awaitable[bool]]) -> Callable[[Context], Awaitable[bool]]:
    """Let a file without ids grow while some of it is confirmed, and end its watcher before the rest is."""

    async def inflict(context: Context) -> bool:
        rows, file = unnamed_rows(context, "grown", _ROWS + _MORE_ROWS), Dropped(context, "grown", "grown.ndjson")
        await asyncio.to_thread(file.drop, content_of(rows[:_ROWS]))
        paused = await context.came_true()
        claimed = file.at("work").exists()
        if claimed:
            await asyncio.to_thread(append, file.at("work"), content_of(rows[_ROWS:]))
        ended = await end(context.child("file-watcher"))
        left = file.at("work").exists()
        await accepted(context, rows if claimed else rows[:_ROWS], file.done.exists)
        return paused and claimed and ended and left

    return inflict


class _Upload:
    """A file that arrives in two parts, the first of which ends in the middle of a row."""

    def __init__(self, file: Dropped, rows: Sequence[Sent], *, whole_rows: int) -> None:
        """`whole_rows` is how many rows the first part holds wholly."""
        self.file = file
        self.rows = rows
        self.content = content_of(rows)
        self._first_bytes = len(content_of(rows[: whole_rows + 1])) - _CUT_BYTES

    @property
    def first(self) -> bytes:
        return self.content[: self._first_bytes]

    @property
    def rest(self) -> bytes:
        return self.content[self._first_bytes :]

    async def stall(self) -> bool:
        """Write the first part, and wait until it was taken for a whole file; return whether it was."""
        await asyncio.to_thread(self.file.write, self.first)
        return await self.file.filed(_FILED_SECONDS_MAX) is not None

    async def go_on(self) -> None:
        """Write the rest, also where the file was moved: a program that has it open does not notice."""
        path = await self.file.filed()
        if path is not None:
            await asyncio.to_thread(append, path, self.rest)

    async def is_read(self) -> bool:
        """Wait until the file is in done/ with all its rows taken and none rejected; return whether it is."""

        def is_whole() -> bool:
            done, rejects = self.file.done, self.file.rejects
            return done.exists() and done.stat().st_size == len(self.content) and not rejects.exists()

        return await until_true(is_whole, _FILED_SECONDS_MAX)


def _uploads(context: Context) -> list[_Upload]:
    """Return uploads that end in done/ when they stall, and one that ends in failed/: no row of it was whole."""
    source = "stalled"
    return [
        _Upload(Dropped(context, source, "csv.csv"), csv_rows(context, source, 60, named=False), whole_rows=40),
        _Upload(Dropped(context, source, "ids.csv"), csv_rows(context, source, 60, named=True), whole_rows=40),
        _Upload(Dropped(context, source, "first.csv"), csv_rows(context, source, 60, named=False), whole_rows=0),
        _Upload(Dropped(context, source, "json.ndjson"), unnamed_rows(context, source, 60), whole_rows=40),
    ]


async def _stalled(context: Context) -> bool:
    """Uploads stall in the middle of a row, are filed, and go on: they are taken back, and each row is stored once."""
    uploads = _uploads(context)
    stalled = await asyncio.gather(*(upload.stall() for upload in uploads))
    failed = uploads[2].file.at("failed").exists()
    await context.moment()
    await asyncio.gather(*(upload.go_on() for upload in uploads))
    await _expect_read(context, uploads)
    return all(stalled) and failed


async def _resumed(context: Context) -> bool:
    """Uploads go on while the file-watcher is down: some were filed before, one is renamed when it is whole."""
    uploads = _uploads(context)
    rows, final = named_rows(context, "stalled", 60), Dropped(context, "stalled", "renamed.ndjson")
    partial, content = Dropped(context, "stalled", "renamed.ndjson.part"), content_of(rows)
    await asyncio.to_thread(partial.write, content[: len(content) // 2])
    stalled = await asyncio.gather(*(upload.stall() for upload in uploads))
    async with asyncio.TaskGroup() as group:
        killed = group.create_task(context.child("file-watcher").kill(away_seconds=1.5))
        await asyncio.sleep(0.2)
        for upload in uploads:
            group.create_task(upload.go_on())
    await context.child("file-watcher").wait_ready()
    passed_over = partial.at("inbox").exists()
    await asyncio.to_thread(append, partial.at("inbox"), content[len(content) // 2 :])
    await asyncio.to_thread(partial.at("inbox").rename, final.at("inbox"))
    await _expect_read(context, uploads)
    await accepted(context, rows, final.done.exists)
    return all(stalled) and killed.result() and passed_over


async def _expect_read(context: Context, uploads: Sequence[_Upload]) -> None:
    read = await asyncio.gather(*(upload.is_read() for upload in uploads))
    for upload, is_read in zip(uploads, read, strict=True):
        accept(context, upload.rows)
        if not is_read:
            context.problems.append(f"an upload that went on was not taken back and read: {upload.file.name}")


async def _cut(context: Context) -> bool:
    """A file is cut in the amount of its last row, and dropped whole afterwards: no part of an amount is stored."""
    rows = csv_rows(context, "cut", 60, named=True)
    content = content_of(rows)
    packed, plain, whole = (Dropped(context, "cut", name) for name in ("cut.csv.gz", "cut.csv", "whole.csv"))
    for file, part in ((plain, content[:-_CUT_BYTES]), (packed, gzipped(content[:-_CUT_BYTES], made_at=1))):
        await asyncio.to_thread(file.drop, part)
    cut = await until_true(lambda: plain.rejects.exists() and packed.rejects.exists(), _FILED_SECONDS_MAX)
    await until_true(lambda: plain.done.exists() and packed.done.exists(), _FILED_SECONDS_MAX)
    await asyncio.to_thread(whole.drop, content)
    await accepted(context, rows, whole.done.exists)
    await _expect_no_conflict(context, rows)
    return cut


async def _expect_no_conflict(context: Context, rows: Sequence[Sent]) -> None:
    """Note where the content of a row was not the first under its id."""
    world, journal = context.world, context.load.journal

    async def are_stored() -> bool:
        ledger = await read_ledger(world, journal.source)
        return all(ledger.find(sent) for sent in rows)

    await until_true(are_stored, _FILED_SECONDS_MAX)
    ledger = await read_ledger(world, journal.source)
    stored = {row["id"] for sent in rows for row in ledger.find(sent)}
    if any(number in stored for number, _ in ledger.conflicts):
        context.problems.append("a row of a file that was cut is a conflict with the whole one")


async def repacked(context: Context) -> bool:
    """The same content, without ids, plain and packed, while the watcher dies: each row is one event."""
    rows = unnamed_rows(context, "packed", 300)
    content = content_of(rows)
    ways = {
        "plain.ndjson": content,
        "first.ndjson.gz": gzipped(content, made_at=1),
        "again.jsonl.gz": gzipped(content, made_at=2),
        "other.ndjson.zst": zstd(content),
    }
    watcher, died, files = context.child("file-watcher"), 0, []
    for name, packed in ways.items():
        files.append(Dropped(context, "packed", name))
        await asyncio.to_thread(files[-1].drop, packed)
        await context.moment(0.0, 0.5)
        # The one before may not be back yet, and then the next file comes while it is down.
        died += await watcher.kill()
    await accepted(context, rows, lambda: all(file.done.exists() for file in files))
    return died > 0


CASES: Final = [
    Case("upload: rows without ids grow, watcher killed", appended(kill), arm=MID_FILE, channels=NO_FILES),
    Case("upload: rows without ids grow, watcher ends", appended(_terminate), arm=MID_FILE, channels=NO_FILES),
    Case("upload: stalls in a row, and goes on", _stalled),
    Case("upload: goes on while nobody watches", _resumed),
    Case("upload: cut in its last row, and then whole", _cut),
    Case("repack: one content, packed in several ways", repacked),
]
