"""What a compiled pipeline makes of an event. Pure."""

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple, Protocol, TypeAlias
from uuid import UUID

import msgspec

from shared.pipelines.model import Pipeline

Amount: TypeAlias = tuple[int, int]
"""An amount of money, exactly: a whole number, and the number of its decimals. (1099, 2) is 10.99."""

Value: TypeAlias = str | int | bool | Decimal | datetime | date | UUID | bytes | Amount | None
"""A value of a typed row; `bytes` is a JSON text."""


class Attributes(NamedTuple):
    """What is known of an event beside its payload; places call them `@source` and so on. Moments are in UTC."""

    source: str
    received_at: datetime
    id: str = ""
    type: str = ""
    channel: str = "http"
    row: int | None = None
    file: str | None = None
    file_at: datetime | None = None
    occurred_at: datetime | None = None


class RowProblem(msgspec.Struct, frozen=True):
    """What is wrong at a place of the payload. Never holds the value found there.

    `code`: missing, type, value, min, max, precision, currency, country, time, check, absent, unreadable, too_many,
    unknown_type, unknown_member or schema.<keyword>. `cause`: `pipeline.table.column:code`, `pipeline.table:check
    <text>` or `pipeline:code`, without versions and indexes; the same over all events.
    """

    pointer: str
    code: str
    detail: str
    cause: str


class TypedRow(NamedTuple):
    """A row: the position of its table in the file, its number within the event and table, values in column order."""

    table: int
    part: int
    values: tuple[Value, ...]


class Made(msgspec.Struct, frozen=True):
    """The rows of an event, or the problems for which it makes none; `notes` say what was odd and did not matter.

    `gone`: of `latest` tables, the rows (by their positions in `rows`) that are tombstones.
    `matched`: at least one table takes events like this one.
    """

    rows: tuple[TypedRow, ...] = ()
    problems: tuple[RowProblem, ...] = ()
    notes: tuple[RowProblem, ...] = ()
    gone: frozenset[int] = frozenset()
    matched: bool = True


class Program(Protocol):
    """A compiled pipeline; `shared.pipelines.compiling.compile_pipeline` makes one."""

    pipeline: Pipeline
    source_code: str

    def run(self, payload: object, about: Attributes) -> Made:
        """Return what a JSON payload makes; Decimal was its `float_hook`. Never raises because of its content."""

    def run_row(self, header: Sequence[str], fields: Sequence[str], about: Attributes) -> Made:
        """Return what a row of a CSV file makes. Never raises because of its content."""
