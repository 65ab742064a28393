"""Which files are settled: names of uploads, empty files, and what the options of a source say."""

import os
import time
from pathlib import Path

import pytest

from file_watcher.settings import Settings
from file_watcher.spool.entry import SpoolEntry
from file_watcher.spool.scanning import CommonOptions
from shared.contracts.event import now
from support.inbox import open_spool

IGNORED = tuple(Settings().files_ignored.split())


def drop(
    root: Path, name: str, content: bytes = b"{}", *, folder: str = "inbox", age_seconds: float = 60
) -> SpoolEntry:
    path = root / folder / "shop" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    moment = time.time() - age_seconds
    os.utime(path, (moment, moment))
    return SpoolEntry(folder, "shop", name)


@pytest.mark.parametrize(
    "name",
    [
        "a.csv.filepart",
        "a.csv.partial",
        "a.csv.crdownload",
        "a.csv.uploading",
        "a.csv.PART",
        "a.csv.tmp",
        "a.csv~",
        "~$a.csv",
        "a.csv.bak",
        ".a.csv.swp",
        "a.csv.swp",
        "Thumbs.db",
        "desktop.ini",
        ".DS_Store",
        "._a.csv",
    ],
)
def test_uploads_in_progress_and_what_systems_leave_about_are_passed_over(tmp_path: Path, name: str) -> None:
    drop(tmp_path, name)
    taken = drop(tmp_path, "a.csv")

    with open_spool(tmp_path, ignored=IGNORED) as spool:
        assert spool.scan().found == [taken]


def test_a_file_in_work_is_taken_up_whatever_its_name(tmp_path: Path) -> None:
    """Code that knew fewer of these names may have claimed it."""
    entry = drop(tmp_path, "a.csv.bak", folder="work")

    with open_spool(tmp_path, ignored=IGNORED) as spool:
        assert spool.scan().found == [entry]


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.ndjson"])
def test_an_empty_file_is_left_alone_for_longer(tmp_path: Path, name: str) -> None:
    """It may be filled: many uploads make the file first."""
    entry = drop(tmp_path, name, b"", age_seconds=10)

    with open_spool(tmp_path) as spool:
        scan = spool.scan()
        assert scan.found == []
        assert scan.settled_in_seconds == pytest.approx(50, abs=5)

        drop(tmp_path, name, b"{}", age_seconds=10)
        assert spool.scan().found == [entry]

        drop(tmp_path, name, b"", age_seconds=61)
        assert spool.scan().found == [entry]


def test_a_file_that_was_taken_up_again_must_be_settled_too(tmp_path: Path) -> None:
    """It is still being written."""
    entry = drop(tmp_path, "a.csv", folder="work", age_seconds=0.1)

    with open_spool(tmp_path, settle_seconds=5) as spool:
        assert spool.scan().found == []
        drop(tmp_path, "a.csv", folder="work", age_seconds=6)
        assert spool.scan().found == [entry]


def test_a_source_may_have_a_settle_time_of_its_own(tmp_path: Path) -> None:
    drop(tmp_path, "a.csv", age_seconds=10)

    with open_spool(tmp_path, options_of=lambda _: CommonOptions(settle_seconds=30)) as spool:
        assert spool.scan().found == []
    with open_spool(tmp_path, options_of=lambda _: CommonOptions(settle_seconds=5)) as spool:
        assert len(spool.scan().found) == 1


def test_a_file_waits_for_its_marker_which_goes_when_it_was_claimed(tmp_path: Path) -> None:
    entry = drop(tmp_path, "a.csv")
    drop(tmp_path, "b.csv.done")

    with open_spool(tmp_path, options_of=lambda _: CommonOptions(marker=".done")) as spool:
        assert spool.scan().found == []
        assert spool.claim(entry, now()) is None

        drop(tmp_path, "a.csv.done")
        assert spool.scan().found == [entry]
        claimed = spool.claim(entry, now())
        assert claimed is not None
        claimed.close()

    assert {path.name for path in (tmp_path / "inbox/shop").iterdir()} == {"b.csv.done"}


def test_a_marker_that_a_crash_has_left_does_not_stand_for_the_next_file(tmp_path: Path) -> None:
    entry = drop(tmp_path, "a.csv")
    drop(tmp_path, "a.csv.done")
    os.link(tmp_path / "inbox/shop/a.csv.done", tmp_path / "kept")

    with open_spool(tmp_path, options_of=lambda _: CommonOptions(marker=".done")) as spool:
        claimed = spool.claim(entry, now())
        assert claimed is not None
        claimed.close()
        # As it was in the moment after the file was moved.
        os.link(tmp_path / "kept", tmp_path / "inbox/shop/a.csv.done")
        again = spool.claim(SpoolEntry("work", "shop", "a.csv"), now())
        assert again is not None
        again.close()

    assert not (tmp_path / "inbox/shop/a.csv.done").exists()
