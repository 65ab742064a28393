"""In-place mode: one file that its owner rewrites is read again whenever it changed, and never moved.

Rows without an id of their own are told apart by their bytes: the n-th row of these bytes is the same event at every
reading, wherever it stands. So an added row is new, an edited row is new, and a moved row is not. The ledger's identity
makes that last over a restart; the memory of confirmed rows below only saves publishing them again.
"""

import asyncio
import hashlib
import os
import stat
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import structlog

from file_watcher.assembly import Batch, assemble
from file_watcher.folders import Stamp, stamp_of
from file_watcher.formats import NO_FORMATS, Formats
from file_watcher.handover import Handover
from file_watcher.landing import row_mapping
from file_watcher.reading import kind_of, open_rows
from file_watcher.rows import Reject, Row, UnreadableError
from file_watcher.settings import Settings
from shared.messaging.session import first_of
from shared.runtime.readiness import Readiness

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

READY: Final = "file"

_DIGEST_BYTES: Final = 16
_REJECTS_SHOWN: Final = 5
# A second change within one tick of the file system's clock leaves no trace, so a file this young is read once more.
_CLOCK_TICK_NS: Final = 2_000_000_000


class ConfirmedRows:
    """The tokens of rows that the broker has confirmed; the oldest are forgotten first."""

    def __init__(self, rows_max: int) -> None:
        """Remember `rows_max` rows."""
        self._tokens: OrderedDict[bytes, None] = OrderedDict()
        self._rows_max = rows_max

    def __contains__(self, token: bytes) -> bool:
        """Return True where the row was confirmed and is remembered."""
        return token in self._tokens

    def add(self, batch: Batch) -> None:
        """Remember the rows of a confirmed batch."""
        self._tokens.update(dict.fromkeys(batch.tokens))
        while len(self._tokens) > self._rows_max:
            self._tokens.popitem(last=False)


class Reading:
    """One reading of the file: names each row by its bytes and by how many equal rows came before it."""

    def __init__(self, confirmed: ConfirmedRows, *, rows_max: int) -> None:
        """Rows beyond `rows_max` make the rest unreadable."""
        self._confirmed = confirmed
        self._rows_max = rows_max
        self._rows = 0
        self._seen: dict[bytes, int] = {}
        self._digest = b""

    def token(self, row: Row) -> bytes | None:
        """See `FreshRows`."""
        self._rows += 1
        if self._rows > self._rows_max:
            raise UnreadableError(f"a file that is read in place may have {self._rows_max} rows")
        self._digest = hashlib.sha256(row.body).digest()[:_DIGEST_BYTES]
        nth = self._seen.get(self._digest, 0) + 1
        self._seen[self._digest] = nth
        token = self._digest + nth.to_bytes(4)
        return None if token in self._confirmed else token

    def key(self, row: Row) -> str:  # noqa: ARG002 - the row whose token was asked for last
        """Return the idempotency key of the row whose token was asked for last."""
        return f"row:{self._digest.hex()}:{self._seen[self._digest]}"


class InPlaceFile:
    """Reads one file at an interval."""

    def __init__(  # noqa: PLR0913 - what the file is, and what reads it
        self,
        path: Path,
        source: str,
        *,
        handover: Handover,
        settings: Settings,
        readiness: Readiness,
        formats: Formats = NO_FORMATS,
    ) -> None:
        """`path` may be a link: its owner chose it."""
        self._path = path
        self._source = source
        self._handover = handover
        self._settings = settings
        self._readiness = readiness
        self._formats = formats
        self._confirmed = ConfirmedRows(settings.files_seen_rows_max)
        self._finished: Stamp | None = None
        self._complaint = ""

    async def run(self, stopping: asyncio.Event, *, interval_seconds: float) -> None:
        """Read what is new until `stopping`."""
        while not stopping.is_set():
            try:
                await self._read_if_changed()
            except OSError as error:
                self._readiness.set(READY, present=False)
                self._complain(error.strerror or type(error).__name__)
            await first_of(stopping, seconds_max=interval_seconds)

    async def _read_if_changed(self) -> None:
        with await asyncio.to_thread(_open_regular, self._path) as file:
            self._readiness.set(READY, present=True)
            status = os.fstat(file.fileno())
            stamp = stamp_of(status)
            if stamp == self._finished:
                return
            settled = time.time_ns() - status.st_mtime_ns > _CLOCK_TICK_NS
            if await self._read(file, complete=settled) and settled:
                self._finished = stamp

    async def _read(self, file: BinaryIO, *, complete: bool) -> bool:
        """Publish what is new; return True when every row is confirmed or rejected."""
        shown = _Rejects()
        try:
            batches = await asyncio.to_thread(self._batches, file, complete=complete)
        except UnreadableError as error:
            shown.add([Reject(0, str(error))])
            confirmed = True
        else:
            confirmed = await self._handover.publish_all(
                batches,
                source=self._source,
                rejected=lambda batch: shown.add(batch.rejects),
                confirmed=self._confirmed.add,
            )
        # While its owner is writing, half a row is no news.
        if shown.count and complete:
            log.warning(
                "rows were rejected; the rest of the file was taken",
                rejected=shown.count,
                first=shown.first,
                **self._names,
            )
        self._complaint = ""
        return confirmed

    def _batches(self, file: BinaryIO, *, complete: bool) -> Iterator[Batch]:
        if os.fstat(file.fileno()).st_size > self._settings.files_bytes_max:
            raise UnreadableError(f"the file is larger than {self._settings.files_bytes_max} bytes")
        form = self._formats.of(self._source)
        content = open_rows(file, kind_of(self._path.name), self._settings, complete=complete, form=form)
        reading = Reading(self._confirmed, rows_max=self._settings.files_in_place_rows_max)
        map_row = row_mapping(
            content,
            self._source,
            self._path.name,
            id_field=self._settings.files_id_field,
            derive_key=reading.key,
            derived=False,
        )
        return assemble(content.rows, map_row, self._settings, fresh=reading)

    def _complain(self, reason: str) -> None:
        """Warn once until it works again or the reason is another."""
        if reason != self._complaint:
            self._complaint = reason
            log.warning("the file cannot be read; trying again at every interval", error=reason, **self._names)

    @property
    def _names(self) -> dict[str, str]:
        return {"source": self._source, "file": self._path.name}


class _Rejects:
    """How many rows were rejected in one reading, and the first of them."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[dict[str, int | str]] = []

    def add(self, rejects: tuple[Reject, ...] | list[Reject]) -> None:
        self.count += len(rejects)
        room = _REJECTS_SHOWN - len(self.first)
        self.first += [{"line": reject.number, "reason": reject.reason} for reject in rejects[:room]]


def _open_regular(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb", buffering=0)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return file
    file.close()
    raise OSError("it is no regular file")
