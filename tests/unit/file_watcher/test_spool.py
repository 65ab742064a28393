"""How files are found, claimed, and moved."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from file_watcher.spool.directory import SpoolDirectory
from file_watcher.spool.entry import SpoolEntry
from file_watcher.spool.files import NotAFileError
from shared.contracts.errors import FatalError
from shared.contracts.event import now
from support.inbox import open_spool


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[SpoolDirectory]:
    with open_spool(tmp_path) as spool:
        yield spool


def drop(root: Path, name: str = "a.json", *, source: str = "shop", age_seconds: float = 60) -> SpoolEntry:
    """Put a settled file into the inbox."""
    path = root / "inbox" / source / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"{}")
    moment = time.time() - age_seconds
    os.utime(path, (moment, moment))
    return SpoolEntry("inbox", source, name)


def found(spool: SpoolDirectory) -> list[SpoolEntry]:
    return spool.scan().found


def test_settled_files_are_found_oldest_first(tmp_path: Path, spool: SpoolDirectory) -> None:
    drop(tmp_path, "new.json", age_seconds=10)
    drop(tmp_path, "old.json", source="bank", age_seconds=20)

    assert found(spool) == [SpoolEntry("inbox", "bank", "old.json"), SpoolEntry("inbox", "shop", "new.json")]


def test_a_fresh_file_is_found_when_it_has_settled(tmp_path: Path, spool: SpoolDirectory) -> None:
    drop(tmp_path, age_seconds=0.5)

    scan = spool.scan()

    assert scan.found == []
    assert scan.settled_in_seconds == pytest.approx(0.5, abs=0.4)


def test_a_file_from_the_future_is_found_when_it_was_seen_unchanged(tmp_path: Path) -> None:
    with open_spool(tmp_path, settle_seconds=0.2) as spool:
        entry = drop(tmp_path, age_seconds=-3600)

        assert found(spool) == []
        time.sleep(0.25)  # noqa: TID251 - a file must settle
        assert found(spool) == [entry]


@pytest.mark.parametrize("name", [".hidden.json", "a.json.tmp", "a.json.PART"])
def test_names_of_files_that_are_being_written_are_passed_over(
    tmp_path: Path, spool: SpoolDirectory, name: str
) -> None:
    drop(tmp_path, name)

    assert found(spool) == []


def test_one_scan_is_bounded(tmp_path: Path) -> None:
    with open_spool(tmp_path, found_max=3) as spool:
        for number in range(5):
            drop(tmp_path, f"{number}.json", age_seconds=100 - number)

        assert [entry.file for entry in found(spool)] == ["0.json", "1.json", "2.json"]


def test_a_claimed_file_is_in_work_and_nobody_elses(tmp_path: Path, spool: SpoolDirectory) -> None:
    entry = drop(tmp_path)

    claimed = spool.claim(entry, now())

    assert claimed is not None
    assert (tmp_path / "work/shop/a.json").exists()
    with open_spool(tmp_path) as others:
        (in_work,) = found(others)
        assert in_work == SpoolEntry("work", "shop", "a.json")
        assert others.claim(entry, now()) is None
        assert others.claim(in_work, now()) is None
        claimed.close()
        taken_over = others.claim(in_work, now())
        assert taken_over is not None
        taken_over.close()


def test_a_file_that_its_producer_has_open_is_left_alone(tmp_path: Path, spool: SpoolDirectory) -> None:
    entry = drop(tmp_path)

    with (tmp_path / "inbox/shop/a.json").open("ab"):
        assert spool.claim(entry, now()) is None

    claimed = spool.claim(entry, now())
    assert claimed is not None
    claimed.close()


def test_no_file_is_replaced(tmp_path: Path, spool: SpoolDirectory) -> None:
    names = []
    for _ in range(3):
        claimed = spool.claim(drop(tmp_path, "a.csv.gz"), now())
        assert claimed is not None
        names.append(spool.finish(claimed, "done", claimed.version(), None).name)
        claimed.close()

    assert names == ["a.csv.gz", "a~2.csv.gz", "a~3.csv.gz"]
    assert len(list((tmp_path / "done/shop").iterdir())) == 3


def test_the_name_in_work_is_free_too(tmp_path: Path, spool: SpoolDirectory) -> None:
    first, second = spool.claim(drop(tmp_path), now()), spool.claim(drop(tmp_path), now())

    assert first is not None
    assert second is not None
    assert (first.name, second.name) == ("a.json", "a~2.json")
    first.close()
    second.close()


def test_rejects_lie_beside_their_file(tmp_path: Path, spool: SpoolDirectory) -> None:
    for _ in range(2):
        claimed = spool.claim(drop(tmp_path), now())
        assert claimed is not None
        with spool.create_rejects(claimed) as rejects:
            rejects.write(b"x")
        spool.finish(claimed, "failed", claimed.version(), None)
        claimed.close()

    names = {path.name for path in (tmp_path / "failed/shop").iterdir()}
    assert names == {"a.json", "a.json.rejects.ndjson", "a~2.json", "a~2.json.rejects.ndjson"}
    assert list((tmp_path / "work/shop").iterdir()) == []


@pytest.mark.parametrize(
    "name", ["x" * 250 + ".json", "é" * 120 + ".ndjson", "a\nb.json", "..json", "~2.json", os.fsdecode(b"\xff\xfe.csv")]
)
def test_a_name_is_only_a_name(tmp_path: Path, spool: SpoolDirectory, name: str) -> None:
    if name.startswith("."):
        name = f"%{name}"
    for _ in range(2):
        claimed = spool.claim(drop(tmp_path, name), now())
        assert claimed is not None
        spool.create_rejects(claimed).close()
        spool.finish(claimed, "done", claimed.version(), None)
        claimed.close()

    assert len(list((tmp_path / "done/shop").iterdir())) == 4


def test_links_pipes_and_folders_are_no_files(tmp_path: Path, spool: SpoolDirectory) -> None:
    source = tmp_path / "inbox/shop"
    source.mkdir()
    (source / "link.json").symlink_to("/etc/hostname")
    os.mkfifo(source / "pipe.json")
    (source / "folder.json").mkdir()

    for name in ("link.json", "pipe.json", "folder.json"):
        with pytest.raises(NotAFileError):
            spool.claim(SpoolEntry("inbox", "shop", name), now())
        assert spool.put_aside(SpoolEntry("inbox", "shop", name)) == name

    assert (tmp_path / "failed/shop/link.json").is_symlink()


def test_a_source_that_is_a_link_is_not_followed(tmp_path: Path, spool: SpoolDirectory) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.json").write_bytes(b"{}")
    (tmp_path / "inbox/shop").symlink_to(elsewhere)

    assert SpoolEntry("inbox", "shop", "a.json") not in found(spool)
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        spool.claim(SpoolEntry("inbox", "shop", "a.json"), now())


def test_a_folder_that_is_gone_ends_the_service(tmp_path: Path, spool: SpoolDirectory) -> None:
    (tmp_path / "inbox").rename(tmp_path / "moved")

    with pytest.raises(FatalError, match="inbox"):
        spool.scan()


def test_a_root_that_cannot_be_used_ends_the_service(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(FatalError):
        open_spool(tmp_path / "file")
