"""Reads typed tables over HTTP, as dicts and as frames. It needs the extra `http`; each frame has an extra of its own.

```python
async with HttpClient("https://gateway.example", api_key="etlp_...") as http:
    async for row in read_rows(http, "orders", {"id": "o-1"}):
        print(row["gross"])  # Decimal('10.99')
    table = await read_arrow(http, "orders")  # or read_pandas, read_polars
```

No value becomes a float. Pages are asked for one after another: a row that is written meanwhile is there as it was
before, as it is after, or, where its key is new, not at all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from uuid import UUID

import msgspec

from etlpay_client.frames import Frame, arrow_table, pandas_frame, polars_frame

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from etlpay_client.http import HttpClient

ROWS_MAX: Final = 500
"""Of a page."""


class _Column(msgspec.Struct):
    name: str
    type: str


class _Page(msgspec.Struct):
    items: list[dict[str, Any]]
    next: str | None
    columns: list[_Column]


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


_CONVERTERS: Final[Mapping[str, Callable[[Any], object]]] = {
    "bigint": int,
    "numeric": Decimal,
    "timestamptz": _moment,
    "date": date.fromisoformat,
    "uuid": UUID,
}
_read_page: Final = msgspec.json.Decoder(_Page, float_hook=Decimal).decode


async def read_rows(
    http: HttpClient, name: str, key: Mapping[str, object] | None = None, *, rows_a_page: int = ROWS_MAX
) -> AsyncIterator[dict[str, Any]]:
    """Yield the rows of a table in the order of its key; of those alone whose key columns have the values of `key`.

    Values are str, int, Decimal, bool, datetime (aware, UTC), date, UUID, whatever JSON is, or None.

    Raises:
        ApiUnavailableError: not now. ApiError: there is no such table for this API key, or `key` is none of it.
    """
    async for page in _pages(http, name, key, rows_a_page):
        for row in _rows_of(page):
            yield row


async def read_arrow(http: HttpClient, name: str, key: Mapping[str, object] | None = None) -> pa.Table:
    """Return the rows as an Arrow table; `etlpay_client.frames` says of which types. Raises as `read_rows`."""
    return arrow_table(await _frame(http, name, key))


async def read_pandas(http: HttpClient, name: str, key: Mapping[str, object] | None = None) -> pd.DataFrame:
    """Return the rows as a pandas frame with Arrow's types, decimals too. Raises as `read_rows`."""
    return pandas_frame(await _frame(http, name, key))


async def read_polars(http: HttpClient, name: str, key: Mapping[str, object] | None = None) -> pl.DataFrame:
    """Return the rows as a polars frame; `etlpay_client.frames` says of which types. Raises as `read_rows`."""
    return polars_frame(await _frame(http, name, key))


async def _frame(http: HttpClient, name: str, key: Mapping[str, object] | None) -> Frame:
    types: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    async for page in _pages(http, name, key, ROWS_MAX):
        # A version that runs since the page before may have more columns.
        types |= {column.name: column.type for column in page.columns}
        rows += _rows_of(page)
    return Frame(types, rows)


async def _pages(
    http: HttpClient, name: str, key: Mapping[str, object] | None, rows_a_page: int
) -> AsyncIterator[_Page]:
    asked = {column: _parameter(value) for column, value in (key or {}).items()}
    cursor: str | None = None
    while True:
        page = _read_page(
            await http.get(f"/api/tables/{quote(name, safe='')}", {**asked, "limit": rows_a_page, "cursor": cursor})
        )
        yield page
        cursor = page.next
        if cursor is None:
            return


def _parameter(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case datetime() | date():
            return value.isoformat()
        case Decimal():
            return format(value, "f")
        case _:
            return str(value)


def _rows_of(page: _Page) -> list[dict[str, Any]]:
    converters = [(column.name, _CONVERTERS[column.type]) for column in page.columns if column.type in _CONVERTERS]
    for row in page.items:
        for name, convert in converters:
            if row[name] is not None:
                row[name] = convert(row[name])
    return page.items
