"""Files that are written, moved, linked and changed while the file-watcher reads them, and 40,000 at once."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from faults.harness.case import ALL_CHANNELS, Case, Context
from faults.harness.drop import drop
from faults.harness.files import accepted, append, content_of, named_rows, rewrite, unnamed_rows
from faults.harness.journal import Sent
from faults.harness.world import SETTLE_SECONDS
from support.waiting import until_true

_NO_FILES: Final = ALL_CHANNELS - {"file"}
_MANY_FILES: Final = 40_000
# On a machine that runs several worlds at once some 70 of them end in a second.
_MANY_SECONDS_MAX: Final = 1_200.0


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir()) if folder.exists() else 0


def _lines(rows: list[Sent]) -> list[bytes]:
    return [sent.first.body for sent in rows]


def _folder(context: Context, name: str, state: str = "inbox") -> Path:
    return context.world.layout.files / state / f"{context.load.journal.source}.{name}"


async def _grown(context: Context) -> bool:
    """A file that grows while it is read: every row once, those before and those after."""
    rows = named_rows(context, "grown", 3_000)
    claimed, done = await _while_claimed(
        context, "grown", rows[:2_900], lambda path: append(path, content_of(rows[2_900:]))
    )
    await accepted(context, rows if claimed else rows[:2_900], done.exists)
    return claimed


async def _rewritten(context: Context) -> bool:
    """A file that is cut to nothing and written anew while it is read, in another order and with more rows."""
    rows = named_rows(context, "rewritten", 3_000)
    anew = rows.copy()
    context.random.shuffle(anew)
    claimed, done = await _while_claimed(
        context, "rewritten", rows[:2_900], lambda path: rewrite(path, content_of(anew))
    )
    await accepted(context, rows if claimed else rows[:2_900], done.exists)
    return claimed


async def _while_claimed(
    context: Context, name: str, rows: list[Sent], change: Callable[[Path], None]
) -> tuple[bool, Path]:
    """Drop a file, and change it while the watcher has claimed it and can publish nothing of it."""
    proxy = context.world.proxy("file-watcher", "amqp")
    proxy.hold()
    await asyncio.to_thread(drop, _folder(context, name), f"{name}.ndjson", _lines(rows))
    work = _folder(context, name, "work") / f"{name}.ndjson"
    claimed = await until_true(work.exists, 20)
    if claimed:
        await asyncio.to_thread(change, work)
    proxy.heal()
    return claimed, _folder(context, name, "done") / f"{name}.ndjson"


async def _written_slowly(context: Context) -> bool:
    """A file under its own name from the first byte on, written with pauses longer than a file has to be quiet for."""
    rows = named_rows(context, "slow", 200)
    folder = _folder(context, "slow")
    folder.mkdir(parents=True)
    done = _folder(context, "slow", "done") / "slow.ndjson"
    half_rows = 0
    with (folder / "slow.ndjson").open("wb") as file:
        for start in range(0, len(rows), 10):
            data = b"".join(line + b"\n" for line in _lines(rows[start : start + 10]))
            # In the middle of a row, too.
            for part in (data[:-40], data[-40:]):
                file.write(part)
                file.flush()
                pause_seconds = context.random.uniform(0.0, 0.4)
                half_rows += part != data[-40:] and pause_seconds > SETTLE_SECONDS
                await asyncio.sleep(pause_seconds)
        early = done.exists()
    if early:
        context.problems.append("a file was done before it was written")
    await accepted(context, rows, done.exists)
    return half_rows > 0


async def _renamed_about(context: Context) -> bool:
    """Files that change their names while the watcher would like to claim them."""
    files, lines = 60, 20
    rows = named_rows(context, "renamed", files * lines)
    folder = _folder(context, "renamed")
    done = _folder(context, "renamed", "done")
    renamed = 0
    async with asyncio.TaskGroup() as group:

        async def move(number: int) -> None:
            nonlocal renamed
            name = folder / f"{number}.ndjson"
            drop(folder, name.name, _lines(rows[number * lines : (number + 1) * lines]))
            for turn in range(12):
                other = folder / f"{number}-{turn}.{context.random.choice(('ndjson', 'jsonl', 'tmp'))}"
                try:
                    name.rename(other)
                except FileNotFoundError:
                    return
                name, renamed = other, renamed + 1
                await asyncio.sleep(context.random.uniform(0.0, 0.15))
            if name.suffix == ".tmp" and name.exists():
                name.rename(folder / f"{number}-last.ndjson")

        for number in range(files):
            group.create_task(move(number))
    await accepted(context, rows, lambda: _count(done) >= files)
    return renamed > files


async def _linked(context: Context) -> bool:
    """Links to files elsewhere, to devices and to nothing, and pipes: none is read, and the files beside them are."""
    rows = named_rows(context, "linked", 100)
    folder = _folder(context, "linked")
    folder.mkdir(parents=True)
    # Stored, it would be an event of this case that nobody sent.
    elsewhere = context.world.layout.state_folder / "elsewhere.ndjson"
    elsewhere.write_bytes(context.load.journal.content(id="elsewhere") + b"\n")
    targets = {"file": elsewhere, "device": Path("/dev/zero"), "nothing": Path("/nowhere"), "folder": elsewhere.parent}
    for name, target in targets.items():
        (folder / f"{name}.ndjson").symlink_to(target)
    os.mkfifo(folder / "pipe.ndjson")
    other = context.world.layout.files / "inbox" / f"{context.load.journal.source}.folder"
    other.symlink_to(elsewhere.parent, target_is_directory=True)
    await asyncio.to_thread(drop, folder, "real.ndjson", _lines(rows))
    await accepted(context, rows, (_folder(context, "linked", "done") / "real.ndjson").exists)
    # Some scans more, in which they might be taken.
    await asyncio.sleep(2)
    taken = [name for name in (*targets, "pipe") if (_folder(context, "linked", "done") / f"{name}.ndjson").exists()]
    context.problems += [f"a {name} was read as a file" for name in taken]
    other.unlink(missing_ok=True)
    return elsewhere.exists()


async def _same_content(context: Context) -> bool:
    """The same rows, without ids of their own, in files of other names: each row is one event."""
    rows = unnamed_rows(context, "twice", 200)
    names = ("first.ndjson", "second.ndjson", "third.jsonl")
    watcher, died = context.child("file-watcher"), 0
    for name in names:
        await asyncio.to_thread(drop, _folder(context, "twice"), name, _lines(rows))
        await context.moment(0.0, 0.5)
        # The one before may not be back yet, and then the next one comes while it is down.
        died += await watcher.kill()
    done = _folder(context, "twice", "done")
    await accepted(context, rows, lambda: all((done / name).exists() for name in names))
    return died > 0


async def _many(context: Context) -> bool:
    """Forty thousand files come while the file-watcher is down, and it dies twice while it reads them."""
    watcher = context.child("file-watcher")
    rows = named_rows(context, "many", _MANY_FILES)
    folder, done = _folder(context, "many"), _folder(context, "many", "done")

    def drop_all() -> None:
        for number, sent in enumerate(rows):
            drop(folder, f"{number}.json", [sent.first.body])

    async with asyncio.TaskGroup() as group:
        first = group.create_task(watcher.kill(away_seconds=8))
        group.create_task(asyncio.to_thread(drop_all))
    died = first.result()
    for _ in range(2):
        await watcher.wait_ready()
        await context.moment(1.0, 3.0)
        died = await watcher.kill() and died
    await accepted(
        context,
        rows,
        lambda: done.exists() and sum(1 for _ in done.iterdir()) == _MANY_FILES,
        seconds_max=_MANY_SECONDS_MAX,
    )
    return died


CASES: Final = [
    Case("a file that grows while it is read", _grown, channels=_NO_FILES),
    Case("a file that is rewritten while it is read", _rewritten, channels=_NO_FILES),
    Case("a file that is written slowly", _written_slowly),
    Case("files that are renamed about", _renamed_about),
    Case("links, devices and pipes in an inbox", _linked),
    Case("same content under several names", _same_content),
    Case("40000 files while nobody watches", _many, channels=_NO_FILES, seconds_max=_MANY_SECONDS_MAX + 60),
]
