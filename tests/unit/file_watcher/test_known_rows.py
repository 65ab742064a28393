"""What is known of a file that is read in place lasts over a restart, and only where all of it was published."""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from file_watcher.known_rows import Checkpoint, Edition, KnownRows
from shared.contracts.errors import FatalError

A, B, C = (letter * 16 for letter in (b"a", b"b", b"c"))
AT = datetime(2026, 3, 1, 9, tzinfo=UTC)


def checkpoint(rows: int) -> Checkpoint:
    return Checkpoint(inode=1, length=100, sha256=b"hash", rows=rows)


def read(known: KnownRows, *digests: bytes, keep: bool = True, appended: bool = False, tail: int = 0) -> list[bool]:
    """Read rows; return which of them are new."""
    with known.counting(appended=appended) as counted:
        new = [counted.count(digest)[1] for digest in digests]
        counted.tail = list(digests[len(digests) - tail :])
        if keep:
            known.keep(counted, checkpoint(len(digests) - tail), header=b"h", file_at=AT)
    return new


def test_a_row_is_new_once_also_after_a_restart(tmp_path: Path) -> None:
    with KnownRows(tmp_path / "rows.sqlite") as known:
        assert read(known, A, B) == [True, True]
        assert read(known, B, A) == [False, False]

    with KnownRows(tmp_path / "rows.sqlite") as known:
        assert read(known, A, C, B) == [False, True, False]
        assert known.checkpoint == checkpoint(3)
        assert known.header == b"h"


def test_as_many_equal_rows_are_known_as_there_ever_were(tmp_path: Path) -> None:
    with KnownRows(tmp_path / "rows.sqlite") as known:
        assert read(known, A, A) == [True, True]
        assert read(known, A) == [False]
        assert read(known, A, A, A) == [False, False, True]


def test_what_was_not_published_is_new_again(tmp_path: Path) -> None:
    with KnownRows(tmp_path / "rows.sqlite") as known:
        assert read(known, A, keep=False) == [True]
        assert read(known, A) == [True]


def test_of_a_file_that_grew_only_what_is_behind_its_extent_is_counted(tmp_path: Path) -> None:
    """The last row, which may have been read before its end came, is counted once more and is not new."""
    with KnownRows(tmp_path / "rows.sqlite") as known:
        read(known, A, A, B, tail=1)

        assert read(known, B, A, C, appended=True, tail=1) == [False, True, True]
        assert read(known, A, A, A, B, C) == [False] * 5


def test_a_file_with_too_many_rows_behind_its_extent_is_counted_from_its_beginning(tmp_path: Path) -> None:
    digests = [number.to_bytes(16) for number in range(1_001)]
    with KnownRows(tmp_path / "rows.sqlite") as known:
        read(known, *digests, tail=1_001)

        assert known.checkpoint.rows is None
        assert not any(read(known, *digests))


def test_in_a_new_generation_equal_rows_are_other_rows(tmp_path: Path) -> None:
    with KnownRows(tmp_path / "rows.sqlite") as known:
        read(known, A)

        known.begin_generation("2")

        assert read(known, A) == [True]
        assert known.generation == "2"


def test_the_moment_of_a_file_lasts_until_there_is_another_file(tmp_path: Path) -> None:
    later = AT + timedelta(microseconds=1)
    with KnownRows(tmp_path / "rows.sqlite") as known:
        assert (known.file_at, known.edition) == (None, None)
        read(known, A)
        known.begin_edition(later, checkpoint(0))
        read(known, B, keep=False)

    with KnownRows(tmp_path / "rows.sqlite") as known:
        assert (known.file_at, known.edition) == (AT, Edition(later, checkpoint(0)))
        read(known, A)
        assert (known.file_at, known.edition) == (AT, None)
        known.begin_generation("2")
        assert (known.file_at, known.edition) == (None, None)


def test_two_processes_do_not_count_the_rows_of_one_file(tmp_path: Path) -> None:
    with KnownRows(tmp_path / "rows.sqlite"), pytest.raises(FatalError, match="another process"):
        KnownRows(tmp_path / "rows.sqlite")


def test_nobody_else_can_read_what_is_kept(tmp_path: Path) -> None:
    with KnownRows(tmp_path / "state" / "rows.sqlite"):
        assert (tmp_path / "state" / "rows.sqlite").stat().st_mode & 0o077 == 0


def test_a_database_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.sqlite").write_text("no database at all, but long enough to look like one" * 10)

    with pytest.raises(FatalError, match=r"rows\.sqlite"):
        KnownRows(tmp_path / "rows.sqlite")


def test_a_fault_of_the_disk_is_raised(tmp_path: Path) -> None:
    with KnownRows(tmp_path / "rows.sqlite") as known:
        known._database.execute("PRAGMA max_page_count = 3")

        with pytest.raises(sqlite3.OperationalError):
            read(known, *(number.to_bytes(16) for number in range(10_000)))
