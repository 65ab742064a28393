"""The known rows of a file that is read in place, in a database on the disk. Blocking.

A file may have millions of rows. Their hashes are kept, so that a start does not publish all of them again. Where the
database is lost, every row is published again, and the ledger recognises them by their ids.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple, Self

from shared.contracts.errors import FatalError

DIGEST_BYTES: Final = 16
"""How many bytes of a row's SHA-256 are kept."""
TAIL_MAX: Final = 1_000
"""Up to so many rows after a checkpoint are counted again; where they are more, all rows are."""

_CACHE_KIB: Final = 16 * 1024
_PRAGMAS: Final = (
    # A second process for the same file would count the same rows.
    "locking_mode = EXCLUSIVE",
    "journal_mode = TRUNCATE",
    "synchronous = NORMAL",
    f"cache_size = -{_CACHE_KIB}",
)
_TABLES: Final = (
    """
    CREATE TABLE IF NOT EXISTS rows (
        digest BLOB PRIMARY KEY, known INTEGER NOT NULL, present INTEGER NOT NULL, reading INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE IF NOT EXISTS file (
        only INTEGER PRIMARY KEY CHECK (only = 1), reading INTEGER NOT NULL, inode INTEGER NOT NULL,
        bytes INTEGER NOT NULL, sha256 BLOB NOT NULL, rows INTEGER, tail BLOB NOT NULL, header BLOB,
        generation TEXT NOT NULL
    )
    """,
    "INSERT OR IGNORE INTO file VALUES (1, 0, 0, 0, x'', 0, x'', NULL, '')",
    """
    CREATE TABLE IF NOT EXISTS editions (
        is_read INTEGER PRIMARY KEY CHECK (is_read IN (0, 1)), file_at TEXT NOT NULL, inode INTEGER, bytes INTEGER,
        sha256 BLOB
    )
    """,
)
_COUNT: Final = (
    "INSERT INTO rows VALUES (?1, 0, 1, ?2) ON CONFLICT (digest) DO UPDATE SET"
    " present = CASE WHEN reading = ?2 THEN present + 1 ELSE 1 END, reading = ?2 RETURNING present, known"
)


class Checkpoint(NamedTuple):
    """How far a file was read: its first `length` bytes, their hash, and how many rows more bytes cannot change.

    `rows` is None where too many rows come after it to count them again.
    """

    inode: int
    length: int
    sha256: bytes
    rows: int | None


NOTHING: Final = Checkpoint(0, 0, b"", 0)
"""The checkpoint of a file that was not read yet."""


class Edition(NamedTuple):
    """A file that was not read to its end yet: when it was first seen, and what was there then."""

    file_at: datetime
    seen: Checkpoint


class KnownRows:
    """The rows of one file that were published, and how far it was read. Raises sqlite3.Error where the disk fails."""

    def __init__(self, path: Path) -> None:
        """Open the database, or make it.

        Raises:
            FatalError: it cannot be opened or made, or another process has it.
        """
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
            path.chmod(0o600)
            for pragma in _PRAGMAS:
                self._database.execute(f"PRAGMA {pragma}")
            for statement in _TABLES:
                self._database.execute(statement)
            self._read_file()
        except (OSError, sqlite3.Error) as error:
            raise FatalError(
                f"cannot use {path}, which keeps what was read of the file ({error}); another process may be reading it"
            ) from error

    def __enter__(self) -> Self:
        """Use it for a while."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the database."""
        self._database.close()

    def _read_file(self) -> None:
        columns = "reading, inode, bytes, sha256, rows, tail, header, generation"
        row = self._database.execute(f"SELECT {columns} FROM file").fetchone()  # noqa: S608 - names of ours
        self._reading: int = row[0]
        self.checkpoint = Checkpoint(*row[1:5])
        self._tail: bytes = row[5]
        self.header: bytes | None = row[6]
        self.generation: str = row[7]
        self.file_at: datetime | None = None
        self.edition: Edition | None = None
        for is_read, text, inode, length, sha256 in self._database.execute("SELECT * FROM editions"):
            file_at = datetime.fromisoformat(text)
            if is_read:
                self.file_at = file_at
            else:
                self.edition = Edition(file_at, Checkpoint(inode, length, sha256, 0))

    @contextmanager
    def counting(self, *, appended: bool) -> Iterator["RowCount"]:
        """Count the rows of one reading. Without `keep` the counts are rolled back.

        `appended`: the file begins with its checkpoint, whose rows need not be counted again.
        """
        self._database.execute("BEGIN IMMEDIATE")
        try:
            if appended:
                # The rows after the checkpoint are read again.
                for start in range(0, len(self._tail), DIGEST_BYTES):
                    digest = self._tail[start : start + DIGEST_BYTES]
                    self._database.execute("UPDATE rows SET present = present - 1 WHERE digest = ?", (digest,))
            yield RowCount(self._database, self._reading if appended else self._reading + 1)
        finally:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")

    def keep(self, counted: "RowCount", checkpoint: Checkpoint, *, header: bytes | None, file_at: datetime) -> None:
        """Keep the counts of a reading: all of its rows are published. `file_at` is when the file was first seen."""
        tail = b"".join(counted.tail)
        if len(counted.tail) > TAIL_MAX:
            checkpoint, tail = checkpoint._replace(rows=None), b""
        self._database.execute(
            "UPDATE file SET reading = ?, inode = ?, bytes = ?, sha256 = ?, rows = ?, tail = ?, header = ?",
            (counted.number, *checkpoint, tail, header),
        )
        self._database.execute("DELETE FROM editions")
        self._database.execute("INSERT INTO editions (is_read, file_at) VALUES (1, ?)", (file_at.isoformat(),))
        self._database.execute("COMMIT")
        self._read_file()

    def begin_edition(self, file_at: datetime, seen: Checkpoint) -> None:
        """Keep the moment of a file that was not seen before. Not while rows are counted."""
        values = (file_at.isoformat(), seen.inode, seen.length, seen.sha256)
        self._database.execute("INSERT OR REPLACE INTO editions VALUES (0, ?, ?, ?, ?)", values)
        self._read_file()

    def begin_generation(self, name: str) -> None:
        """Delete the rows: it is a new file, and its rows are new, also where they are equal."""
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("DELETE FROM rows")
            self._database.execute("UPDATE file SET inode = 0, bytes = 0, sha256 = x'', rows = 0, tail = x''")
            self._database.execute("UPDATE file SET header = NULL, generation = ?", (name,))
            self._database.execute("DELETE FROM editions")
        self._read_file()

    def accept_header(self) -> None:
        """Accept whatever header the file has at its next reading."""
        self._database.execute("UPDATE file SET header = NULL")
        self._read_file()


class RowCount:
    """Counts the rows of one reading."""

    def __init__(self, database: sqlite3.Connection, number: int) -> None:
        """Use `KnownRows.counting`."""
        self._cursor = database.cursor()
        self.number = number
        self.tail: list[bytes] = []

    def count(self, digest: bytes) -> tuple[int, bool]:
        """Count a row; return how many equal rows there are so far, and whether it is new."""
        present, known = self._cursor.execute(_COUNT, (digest, self.number)).fetchone()
        if present <= known:
            return present, False
        self._cursor.execute("UPDATE rows SET known = ? WHERE digest = ?", (present, digest))
        return present, True
