"""The names of rows that have no id of their own, and which rows a file had before it grew."""

from file_watcher.formats.content import row_digest
from file_watcher.formats.rows import Reject, Row
from file_watcher.mapping import MapRow
from file_watcher.spool.claims import Confirmed, Extent
from shared.contracts.event import now


class RowKeys:
    """Gives the keys of rows without an id: the hash of the content and the row's number."""

    def __init__(self, extent: Extent) -> None:
        """`count` says how many rows asked."""
        self._prefix = f"file:{extent.digest}:"
        self.count = 0

    def __call__(self, row: Row) -> str:
        """See `DeriveKey`."""
        self.count += 1
        return f"{self._prefix}{row.number}"


class NewRows:
    """Tells what a file grew by from the rows that were confirmed before. See `FreshRows`."""

    def __init__(self, confirmed: Confirmed, map_row: MapRow, *, numbered_by_line: bool) -> None:
        """`numbered_by_line`: a row's number is that of its first line, of which it may have several."""
        self._confirmed = confirmed
        self._map_row = map_row
        self._by_line = numbered_by_line

    def is_new(self, row: Row) -> bool:
        """Return False for a row that was there. One that was cut off then, and is whole now, was not."""
        last = last_number(row, numbered_by_line=self._by_line)
        if last > self._confirmed.rows or (
            last == self._confirmed.rows and row_digest(row.body) != self._confirmed.tail
        ):
            return True
        # What was rejected is told again, in the new rejects file.
        self._map_row(row, now())
        return False


def last_number(row: Row | Reject, *, numbered_by_line: bool) -> int:
    """Return the number of the row's last line, or its own where rows have no lines."""
    if isinstance(row, Row) and numbered_by_line:
        return row.number + row.body.count(b"\n")
    return row.number
