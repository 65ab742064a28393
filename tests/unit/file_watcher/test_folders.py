"""Who may read what lies in the four folders: not every user of the machine."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from file_watcher.spool.directory import SpoolDirectory
from file_watcher.spool.folders import FOLDERS
from support.inbox import Inbox, open_spool


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def opened(root: Path, umask: int = 0o027) -> None:
    spool: SpoolDirectory = open_spool(root, umask=umask)
    spool.close()


def test_what_is_made_is_closed_to_other_users(tmp_path: Path) -> None:
    opened(tmp_path / "data")

    assert {mode(tmp_path / "data" / name) for name in ("", *FOLDERS)} == {0o750}


@pytest.mark.parametrize(("umask", "folder", "file"), [(0o077, 0o700, 0o600), (0o007, 0o770, 0o660)])
async def test_a_umask_says_what_is_made(tmp_path: Path, umask: int, folder: int, file: int) -> None:
    """Also more than the process gives: it must be possible to let a group write."""
    inbox = Inbox(tmp_path)
    inbox.spool.close()
    inbox.spool = open_spool(tmp_path / "data", settle_seconds=0.0, umask=umask)
    inbox.root = tmp_path / "data"
    with inbox.spool:
        await inbox.ingest(inbox.drop("a.ndjson", b'{"row": 1}\nbroken\n'))

    assert {mode(inbox.root / name) for name in FOLDERS} == {folder}
    assert mode(inbox.root / "done/shop") == mode(inbox.root / "work/shop") == folder
    assert mode(inbox.root / "done/shop/a.ndjson.rejects.ndjson") & ~0o060 == file & ~0o060
    assert mode(inbox.root / "done/shop/a.ndjson") & 0o007 == 0


def test_folders_that_are_there_are_closed_to_other_users(tmp_path: Path) -> None:
    for name in FOLDERS:
        (tmp_path / name).mkdir(mode=0o755)

    opened(tmp_path)

    assert {mode(tmp_path / name) for name in FOLDERS} == {0o750}


def test_an_inbox_that_a_group_may_write_to_stays_so(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox").chmod(0o2775)

    opened(tmp_path, 0o077)

    assert mode(tmp_path / "inbox") == 0o2770


@pytest.mark.parametrize(("before", "after"), [(0o777, 0o773), (0o1777, 0o1773), (0o733, 0o733)])
def test_an_inbox_that_everybody_drops_files_into_is_not_listed_but_stays_open(
    tmp_path: Path, before: int, after: int
) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox").chmod(before)

    opened(tmp_path)

    assert mode(tmp_path / "inbox") == after


def test_an_inbox_in_which_others_have_folders_stays_open_to_them(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir(mode=0o755)
    (tmp_path / "inbox/bank").mkdir()
    (tmp_path / "inbox/bank").chmod(0o777)

    opened(tmp_path)

    assert mode(tmp_path / "inbox") == 0o751
    assert mode(tmp_path / "inbox/bank") == 0o777
