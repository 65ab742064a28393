"""Rows of a typed table as Arrow, pandas and polars hold them. No value becomes a float.

| column | Arrow, pandas | polars |
|---|---|---|
| `text`, `uuid` | string | String |
| `jsonb` | string: the JSON | String |
| `bigint`, `integer` | int64, int32 | Int64, Int32 |
| `boolean` | bool | Boolean |
| `timestamptz` | timestamp[us, UTC] | Datetime, UTC |
| `date` | date32 | Date |
| `numeric` | decimal128, else decimal256, else string | Decimal, else String |

A decimal column has the scale of its value with most decimals. It is of 38 digits where the longest whole part and
this scale fit together, else of 76, and else its values are the texts that the API gives.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

DIGITS_128: Final = 38
DIGITS_256: Final = 76

_encode_json: Final = msgspec.json.Encoder(decimal_format="number").encode


class Frame(NamedTuple):
    """The rows of a table as `etlpay_client.tables.read_rows` yields them, and the SQL types of their columns."""

    types: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]]

    def values(self, name: str) -> list[Any]:
        """Return a column; UUIDs and JSON as texts."""
        values = [row.get(name) for row in self.rows]
        match self.types[name]:
            case "uuid":
                return _texts(values, str)
            case "jsonb":
                return _texts(values, lambda value: _encode_json(value).decode())
            case _:
                return values


def arrow_table(frame: Frame) -> pa.Table:
    """Return an Arrow table. It needs the extra `arrow`."""
    arrow = _module("pyarrow", "arrow")
    types = {
        "bigint": arrow.int64(),
        "integer": arrow.int32(),
        "boolean": arrow.bool_(),
        "timestamptz": arrow.timestamp("us", tz="UTC"),
        "date": arrow.date32(),
    }
    arrays = {}
    for name, kind in frame.types.items():
        values, arrow_type = frame.values(name), types.get(kind, arrow.string())
        if kind == "numeric":
            scale, digits = _size(values)
            if digits > DIGITS_256:
                values = _texts(values, _plain)
            else:
                arrow_type = (
                    arrow.decimal128(DIGITS_128, scale) if digits <= DIGITS_128 else arrow.decimal256(DIGITS_256, scale)
                )
        arrays[name] = arrow.array(values, type=arrow_type)
    table: pa.Table = arrow.table(arrays)
    return table


def pandas_frame(frame: Frame) -> pd.DataFrame:
    """Return a pandas frame with Arrow's types. It needs the extra `pandas`."""
    pandas = _module("pandas", "pandas")
    made: pd.DataFrame = arrow_table(frame).to_pandas(types_mapper=pandas.ArrowDtype)
    return made


def polars_frame(frame: Frame) -> pl.DataFrame:
    """Return a polars frame. It needs the extra `polars`."""
    polars = _module("polars", "polars")
    types = {
        "bigint": polars.Int64,
        "integer": polars.Int32,
        "boolean": polars.Boolean,
        "timestamptz": polars.Datetime("us", "UTC"),
        "date": polars.Date,
    }
    columns = []
    for name, kind in frame.types.items():
        values, polars_type = frame.values(name), types.get(kind, polars.String)
        if kind == "numeric":
            scale, digits = _size(values)
            if digits > DIGITS_128:
                values = _texts(values, _plain)
            else:
                polars_type = polars.Decimal(DIGITS_128, scale)
        columns.append(polars.Series(name, values, dtype=polars_type, strict=True))
    made: pl.DataFrame = polars.DataFrame(columns)
    return made


def _module(name: str, extra: str) -> Any:  # noqa: ANN401 - a module without stubs
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(f"this needs {error.name}: pip install 'etlpay-client[{extra}]'", name=error.name) from error


def _size(values: Iterable[Decimal | None]) -> tuple[int, int]:
    """Return the scale of a decimal column, and the digits that hold every value with it; NaN fits in none."""
    whole = scale = 0
    for value in values:
        if value is None:
            continue
        exponent = value.as_tuple().exponent
        if not isinstance(exponent, int):
            return 0, DIGITS_256 + 1
        scale = max(scale, -exponent)
        whole = max(whole, value.adjusted() + 1)
    return scale, max(whole + scale, 1)


def _plain(value: Decimal) -> str:
    return format(value, "f")


def _texts(values: Iterable[Any], text_of: Any) -> list[str | None]:  # noqa: ANN401 - a function of any value
    return [None if value is None else text_of(value) for value in values]
