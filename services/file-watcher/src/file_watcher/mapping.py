"""Mapping: the rows of a chunk become envelopes, or are refused with the reason. Pure."""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple, Protocol

from shared.contracts.csv_row import content_type_of
from shared.contracts.errors import InvalidEventError
from shared.contracts.event import Channel, Envelope, identify, stamp
from shared.files.columns import Columns, RowScreen
from shared.files.row_readers import CsvRowReader, JsonRowReader, reason_of
from shared.files.rows import Chunk, Reject, Row, Skipped, UnreadableError, unreadable

ReadId = Callable[[bytes], str]
"""Checks a row and returns its own id; empty: it has none.

Raises InvalidEventError; UnreadableError where from this row on nothing can be read.
"""


class RowFilter(Protocol):
    """Separates the new rows of a file from those that were published before."""

    def new(self, row: Row) -> Row | None:
        """Return the row, with its key where it has one of its own; None: it is known. Called for each row, in order.

        Raises:
            InvalidEventError: it is known, and was rejected.
            UnreadableError: the rest of the file is not read.
        """

    def skip_reject(self) -> None:
        """Note that a row was rejected while the file was cut."""


class CsvTable(Protocol):
    """The header of a CSV file, and its screen for rows that are no data; `CsvFile` has both."""

    columns: Columns
    screen: RowScreen


class MappedChunk(NamedTuple):
    """The events of a chunk, and what was rejected; `skipped` counts rows that held nothing.

    `last` is the last row or reject; `unreadable`: nothing after it can be read.
    """

    events: list[Envelope]
    rejects: list[Reject]
    skipped: int
    last: Row | Reject | None
    unreadable: bool


class RowMapper:
    """Maps the rows of one file."""

    def __init__(  # noqa: PLR0913 - each is the same for all rows of a file
        self,
        source: str,
        file_name: str,
        read_id: ReadId,
        *,
        key_prefix: str = "",
        derived: bool = True,
        header: bytes = b"",
        content_type: str = "application/json",
        file_at: datetime | None = None,
    ) -> None:
        """A row without an id of its own has the key `key_prefix` and its number, unless the row brings a key.

        The body of an event is `header` and the row. `derived=False`: derived keys are in producers' name space, where
        they were before derived keys had their own. `file_at` is the moment of the file.
        """
        self._source = source
        self._file_name = file_name
        self._read_id = read_id
        self._key_prefix = key_prefix
        self._derived = derived
        self._header = header
        self._content_type = content_type
        self._file_at = file_at
        self.derived_keys = 0
        """How many rows had no id of their own."""

    def map(self, row: Row, received_at: datetime) -> Envelope:
        """Return the envelope. Raises InvalidEventError; UnreadableError: from this row on nothing can be read."""
        key = self._read_id(row.body)
        derived = False
        if not key:
            key = row.key or f"{self._key_prefix}{row.number}"
            derived = self._derived
            self.derived_keys += 1
        return Envelope(
            event_id=identify(self._source, key, derived=derived),
            source=self._source,
            channel=Channel.FILE,
            received_at=received_at,
            body=self._header + row.body,
            idempotency_key=key,
            derived=derived,
            content_type=self._content_type,
            origin=f"{self._file_name}:{row.number}",
            file_at=self._file_at,
        )

    def map_chunk(self, chunk: Chunk, received_at: datetime, row_filter: RowFilter | None = None) -> MappedChunk:
        """Return the envelopes of a chunk; each is a microsecond after the one before."""
        events: list[Envelope] = []
        rejects: list[Reject] = []
        last: Row | Reject | None = None
        skipped, fault = 0, chunk.fault
        for piece in chunk.pieces:
            if type(piece) is Row:
                try:
                    row = piece if row_filter is None else row_filter.new(piece)
                    if row is not None:
                        events.append(self.map(row, stamp(received_at, len(events))))
                except InvalidEventError as error:
                    rejects.append(Reject(piece.number, reason_of(error)))
                except UnreadableError as error:
                    fault = unreadable(piece.number, error)
                    break
                last = piece
            elif isinstance(piece, Reject):
                rejects.append(piece)
                last = piece
                if row_filter:
                    row_filter.skip_reject()
            elif isinstance(piece, Skipped):
                skipped += piece.count
        if fault:
            rejects.append(fault)
        return MappedChunk(events, rejects, skipped, last, fault is not None)


def row_mapper(  # noqa: PLR0913 - each is the same for all rows of a file
    table: CsvTable | None,
    source: str,
    file_name: str,
    *,
    id_field: str,
    key_prefix: str = "",
    derived: bool = True,
    file_at: datetime | None = None,
) -> RowMapper:
    """Return the mapper of a file's rows: CSV records where it has a `table`, else JSON objects.

    A JSON row's own id is its member `id_field`, a string or an integer, and the body is the row. A record's own id is
    in the column that the table names, unless that is empty; the body is the header, a line feed and the record.
    """
    if table is None:
        read_id = JsonRowReader(id_field).own_id
        return RowMapper(source, file_name, read_id, key_prefix=key_prefix, derived=derived, file_at=file_at)
    return RowMapper(
        source,
        file_name,
        CsvRowReader(table.columns, table.screen).own_id,
        key_prefix=key_prefix,
        derived=derived,
        header=table.columns.header + b"\n",
        content_type=content_type_of(table.columns.dialect),
        file_at=file_at,
    )
