"""Files that are bombs, endless, broken, or no files: dropped into the inbox of the running watcher, all at once.

How rows are cut in detail is in tests/unit/file_watcher/test_rows.py and test_reading.py.
"""

import gzip
import io
import os
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
import pytest_asyncio
import zstandard

from support.hostile import CANARY
from support.stack import Stack, until

MIB = 1024 * 1024
MARK = CANARY.encode()
ROW = b'{"mark": "%b"}' % MARK
PREFIX = f"hostile-files-{CANARY[-8:]}"


class Drop(NamedTuple):
    """A file, where it must end, and how many events it holds."""

    file: str
    content: bytes | Callable[[Path], None]
    ended: str
    events: int = 0
    rejects: int | None = None


def _zipped(name: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return packed.getvalue()


def _sparse(size: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(size)

    return make


def _socket(path: Path) -> None:
    # A socket's path is short, so it is made elsewhere first.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/tmp/{CANARY[-12:]}")  # noqa: S108 - moved away at once
    Path(f"/tmp/{CANARY[-12:]}").rename(path)  # noqa: S108 - as above


def _device(path: Path) -> None:
    try:
        os.mknod(path, 0o020666, os.makedev(1, 5))
    except PermissionError:
        path.symlink_to("/dev/zero")


def _bomb(pack: Callable[[bytes], bytes]) -> bytes:
    """Return 400 MB in little."""
    return pack(bytes(100 * MIB)) * 4


FIELD = b"x" * 131_073
DROPS = {
    "gzip bomb": Drop("a.json.gz", _bomb(gzip.compress), "failed"),
    "millions of blank lines": Drop("a.ndjson.gz", gzip.compress(b"\n" * 3 * MIB + ROW), "done", 1, 0),
    "gzip bomb in gzip": Drop("a.ndjson.gz", gzip.compress(_bomb(gzip.compress)), "failed"),
    "zstd bomb": Drop("a.ndjson.zst", _bomb(zstandard.ZstdCompressor(level=19).compress), "failed"),
    "zstd bomb of one line": Drop("a.csv.zst", zstandard.ZstdCompressor().compress(b"x" * 300 * MIB), "failed"),
    "zip bomb": Drop("a.zip", _zipped("a.json", bytes(100 * MIB)), "failed"),
    "zip that says json": Drop("a.json", _zipped("../../../tmp/etlpay-slip.json", ROW), "failed"),
    "gzip with a climbing name inside": Drop(
        "a.json.gz", b"\x1f\x8b\x08\x08" + bytes(6) + b"../../../slip\x00" + gzip.compress(ROW)[10:], "done", 1
    ),
    "an open quote": Drop("a.csv", b'a,b\n1,"open\n2,"b" c\n3,c\n', "done", 1, 2),
    "a quote open at the end of the file": Drop("a.csv", b'a,b\n0,a\n1,"open\n2,b\n3,c\n', "done", 1, 1),
    "a row cut off": Drop("a.csv", b"a,b\n1,100\n2,25", "done", 1, 1),
    "a row cut off in a packed file": Drop("a.csv.gz", gzip.compress(b"a,b\n1,100\n2,25"), "done", 1, 1),
    "semicolons": Drop("a.csv", b"id;amount\r\n1;10,50\r\n2;20\r\n", "done", 2, 0),
    "no header": Drop("a.csv", b"e-1,10.50\ne-2,20.00\n", "failed", 0, 1),
    "lines above the header": Drop("a.csv", b"Account,X\nBalance,1\n\nid,amount\n1,2\n", "failed", 0, 1),
    "a header twice": Drop("a.csv", b"a,b\n1,2\n\xef\xbb\xbfa,b\n3,4\n", "done", 2, 1),
    "UTF-16": Drop("a.csv", "a,b\r\n1,2\r\n".encode("utf-16"), "failed", 0, 1),
    "objects in a row": Drop("a.json", b'{"n": 1}{"n": 2}', "failed", 0, 1),
    "lines that say json": Drop("a.json", b'half"}\n{"n": 1}\n{"n": 2}\n', "done", 2, 1),
    "a quote open to the end": Drop("a.csv", b"a,b\n" + b'"\n' + b"1,2\n" * 20_000, "done", 20_000, 1),
    "a quote open in the header": Drop("a.csv", b'a,"b\n1,2\n', "failed"),
    "ragged rows": Drop("a.csv", b"a,b\n1\n1,2\n1,2,3\n,,,,\n", "done", 1, 2),
    "a field of 131073 bytes": Drop("a.csv", b"a,b\n" + FIELD + b',2\n"' + FIELD + b'",2\n', "done", 2),
    "NUL in a field": Drop("a.csv", b"a,b\n1,\x00\n1,2\n", "done", 2),
    "NUL in lines": Drop("a.ndjson", ROW + b"\n\x00\n" + b'{"n": "\x00"}\n' + ROW + b"\n", "done", 2, 2),
    "nothing but NUL": Drop("a.ndjson", bytes(10_000), "failed", 0, 1),
    "mixed newlines": Drop("a.ndjson", b'{"n": 1}\r\n{"n": 2}\n\r\n\n{"n": 3}\r\n', "done", 3, 0),
    "carriage returns alone": Drop("a.ndjson", b'{"n": 1}\r{"n": 2}\r', "failed", 0, 1),
    "line separators": Drop("a.ndjson", '{"n": "\u2028\u2029\x85"}\n{"n": 2}\n'.encode(), "done", 2, 0),
    "BOM": Drop("a.csv", b"\xef\xbb\xbfid,b\n1,2\n", "done", 1, 0),
    "BOM in the middle": Drop("a.ndjson", ROW + b"\n\xef\xbb\xbf" + ROW + b"\n", "done", 1, 1),
    "an endless line": Drop("a.ndjson", b"x" * 100 * MIB + b"\n" + ROW + b"\n", "done", 1, 1),
    "an endless header": Drop("a.csv", b"x," * 50 * MIB, "failed"),
    "an endless element": Drop("a.json", b"[" * 100 * MIB, "failed"),
    "a million columns": Drop("a.csv", b",".join(b"c%d" % n for n in range(9_000)) + b"\n1,2\n", "failed"),
    "sparse 50 GB": Drop("a.ndjson", _sparse(50 * 1024**3), "failed"),
    "sparse 1 GB": Drop("a.json", _sparse(1024**3), "failed"),
    "a link": Drop("a.json", lambda path: path.symlink_to("/etc/passwd"), "failed"),
    "a link to nowhere": Drop("a.json", lambda path: path.symlink_to("nowhere"), "failed"),
    "a link to itself": Drop("a.json", lambda path: path.symlink_to(path.name), "failed"),
    "a link to a device": Drop("a.json", lambda path: path.symlink_to("/dev/zero"), "failed"),
    "a device": Drop("a.json", _device, "failed"),
    "a pipe": Drop("a.json", os.mkfifo, "failed"),
    "a socket": Drop("a.json", _socket, "failed"),
    "a folder": Drop("a.json", Path.mkdir, "failed"),
    "name with a line feed": Drop("a\nlevel=error.json", ROW, "done", 1),
    "name with escape codes": Drop("\x1b[2J\x07.json", ROW, "done", 1),
    "name that is no UTF-8": Drop(os.fsdecode(b"\xff\xfe.json"), ROW, "done", 1),
    "name that is long": Drop("x" * 245 + ".json", ROW, "done", 1),
    "name that asks for a shell": Drop("$(touch slip);`id`|.json", ROW, "done", 1),
    "name that is an option": Drop("--help.json", ROW, "done", 1),
    "name right to left": Drop("\u202egpj.json", ROW, "done", 1),
    "name that climbs": Drop("%2e%2e%2f..%2fslip.json", ROW, "done", 1),
    "name of our own": Drop("a.json.rejects.ndjson", ROW, "done", 1),
}
NAMES = tuple(DROPS)


def source_of(name: str) -> str:
    return f"{PREFIX}-{NAMES.index(name)}"


def _drop(stack: Stack, name: str) -> None:
    drop = DROPS[name]
    if isinstance(drop.content, bytes):
        folder = stack.inbox / source_of(name)
        folder.mkdir()
        # The longest name that a file may have.
        unfinished = folder / ".tmp"
        unfinished.write_bytes(drop.content)
        unfinished.rename(folder / drop.file)
    else:
        folder = stack.inbox / source_of(name)
        folder.mkdir()
        drop.content(folder / drop.file)


async def _waiting(stack: Stack) -> list[Path]:
    root = stack.inbox.parent
    return [
        path
        for folder in ("inbox", "work")
        for source in (root / folder).glob(f"{PREFIX}-*")
        for path in ([source] if source.is_symlink() else source.iterdir())
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dropped(local_stack: Stack) -> Stack:
    """All files at once; returns when none is left to be taken."""
    for name in NAMES:
        _drop(local_stack, name)
    left = await until(lambda: _waiting(local_stack), lambda waiting: not waiting, seconds_max=100)
    assert left == []
    return local_stack


@pytest.mark.parametrize("name", NAMES)
async def test_a_file(dropped: Stack, name: str) -> None:
    """It ends where it must, its good rows are stored, and what was rejected is reported without a value."""
    drop, source = DROPS[name], source_of(name)

    found = sorted((path.parent.parent.name, path.name) for path in dropped.inbox.parent.glob(f"*/{source}/*"))
    ended = [
        path for path in dropped.inbox.parent.glob(f"{drop.ended}/{source}/*.rejects.ndjson") if path.name != drop.file
    ]
    rejected = [line for path in ended for line in path.read_bytes().splitlines()]

    # A name is shortened where that of its rejects would be too long.
    assert (drop.ended, drop.file[:100]) in [(folder, file[:100]) for folder, file in found]
    assert MARK not in b"".join(rejected)
    assert all(msgspec.json.decode(line)["reason"] for line in rejected)
    assert drop.ended == "done" or rejected
    assert drop.rejects is None or len(rejected) == drop.rejects
    await dropped.events_of(source, count=drop.events)


def test_nothing_was_written_outside(dropped: Stack) -> None:
    """No name, on the disk or within a file, leads out of the four folders."""
    assert list(dropped.root.rglob("*slip*")) == [
        path for path in dropped.root.rglob("*slip*") if path.is_relative_to(dropped.inbox.parent / "done")
    ]
    assert not Path("/tmp/etlpay-slip.json").exists()  # noqa: S108 - the name in the archive


async def test_a_folder_that_is_a_link_is_not_followed(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(ROW)
    link = stack.inbox / f"{PREFIX}-link"

    link.symlink_to(tmp_path)
    await until(lambda: _waiting(stack), lambda waiting: not waiting, seconds_max=20)

    assert (tmp_path / "a.json").read_bytes() == ROW
    assert await stack.fetch("SELECT 1 FROM events WHERE source = $1", link.name) == []
