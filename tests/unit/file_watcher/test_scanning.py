"""Which files are settled: names of uploads, empty files, and what the options of a source say."""

import os
import time
from pathlib import Path

import pytest

from file_watcher.folders import Place
from file_watcher.scanning import CommonOptions
from file_watcher.settings import Settings
from support.inbox import open_folders

IGNORED = tuple(Settings().files_ignored.split())


def drop(root: Path, name: str, content: bytes = b"{}", *, folder: str = "inbox", age_seconds: float = 60) -> Place:
    path = root / folder / "shop" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    moment = time.time() - age_seconds
    os.utime(path, (moment, moment))
    return Place(folder, "shop", name)


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

    with open_folders(tmp_path, ignored=IGNORED) as folders:
        assert [found.place for found in folders.scan().found] == [taken]


def test_a_file_in_work_is_taken_up_whatever_its_name(tmp_path: Path) -> None:
    """Code that knew fewer of these names may have claimed it."""
    place = drop(tmp_path, "a.csv.bak", folder="work")

    with open_folders(tmp_path, ignored=IGNORED) as folders:
        assert [found.place for found in folders.scan().found] == [place]


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.ndjson"])
def test_an_empty_file_is_left_alone_for_longer(tmp_path: Path, name: str) -> None:
    """It may be filled: many uploads make the file first."""
    place = drop(tmp_path, name, b"", age_seconds=10)

    with open_folders(tmp_path) as folders:
        scan = folders.scan()
        assert scan.found == []
        assert scan.settled_in_seconds == pytest.approx(50, abs=5)

        drop(tmp_path, name, b"{}", age_seconds=10)
        assert [found.place for found in folders.scan().found] == [place]

        drop(tmp_path, name, b"", age_seconds=61)
        assert [found.place for found in folders.scan().found] == [place]


def test_a_file_that_was_taken_up_again_must_be_settled_too(tmp_path: Path) -> None:
    """Somebody is writing into it."""
    place = drop(tmp_path, "a.csv", folder="work", age_seconds=0.1)

    with open_folders(tmp_path, settle_seconds=5) as folders:
        assert folders.scan().found == []
        drop(tmp_path, "a.csv", folder="work", age_seconds=6)
        assert [found.place for found in folders.scan().found] == [place]


def test_a_source_may_have_a_settle_time_of_its_own(tmp_path: Path) -> None:
    drop(tmp_path, "a.csv", age_seconds=10)

    with open_folders(tmp_path, options_of=lambda _: CommonOptions(settle_seconds=30)) as folders:
        assert folders.scan().found == []
    with open_folders(tmp_path, options_of=lambda _: CommonOptions(settle_seconds=5)) as folders:
        assert len(folders.scan().found) == 1


def test_a_file_waits_for_its_marker_which_goes_when_it_was_claimed(tmp_path: Path) -> None:
    place = drop(tmp_path, "a.csv")
    drop(tmp_path, "b.csv.done")

    with open_folders(tmp_path, options_of=lambda _: CommonOptions(marker=".done")) as folders:
        assert folders.scan().found == []
        assert folders.claim(place) is None

        drop(tmp_path, "a.csv.done")
        assert [found.place for found in folders.scan().found] == [place]
        claimed = folders.claim(place)
        assert claimed is not None
        claimed.close()

    assert {path.name for path in (tmp_path / "inbox/shop").iterdir()} == {"b.csv.done"}


def test_a_marker_that_a_crash_has_left_does_not_stand_for_the_next_file(tmp_path: Path) -> None:
    place = drop(tmp_path, "a.csv")
    drop(tmp_path, "a.csv.done")
    os.link(tmp_path / "inbox/shop/a.csv.done", tmp_path / "kept")

    with open_folders(tmp_path, options_of=lambda _: CommonOptions(marker=".done")) as folders:
        claimed = folders.claim(place)
        assert claimed is not None
        claimed.close()
        # As it was in the moment after the file was moved.
        os.link(tmp_path / "kept", tmp_path / "inbox/shop/a.csv.done")
        again = folders.claim(Place("work", "shop", "a.csv"))
        assert again is not None
        again.close()

    assert not (tmp_path / "inbox/shop/a.csv.done").exists()
