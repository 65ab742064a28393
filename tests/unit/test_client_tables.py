"""Typed tables as Python values and as frames: every digit is kept, and nothing is a float."""

import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pandas as pd
import polars as pl
import pytest

from etlpay_client.frames import Frame, arrow_table, pandas_frame, polars_frame
from etlpay_client.tables import read_arrow, read_pandas, read_polars, read_rows

COLUMNS = {
    "id": "text", "number": "bigint", "gross": "numeric", "paid": "boolean", "at": "timestamptz", "day": "date",
    "who": "uuid", "more": "jsonb", "_part": "integer",
}  # fmt: skip
FULL = (
    '{"id":"o-1","number":"9007199254740993","gross":"1000000000000000000000000000000.01","paid":true,'
    '"at":"2026-03-01T10:30:05.123456+01:00","day":"2026-03-01","who":"0190b5a0-0000-7000-8000-000000000000",'
    '"more":{"a":[0.1,1e400,123456789012345678901234567890]},"_part":0}'
)
EMPTY = msgspec.json.encode(dict.fromkeys(COLUMNS) | {"id": "o-2", "_part": 1}).decode()


class FakeHttp:
    """Answers pages in turn, and keeps what it was asked for."""

    def __init__(self, *pages: str, columns: Mapping[str, str] = COLUMNS) -> None:
        self.asked: list[tuple[str, dict[str, object]]] = []
        self._pages = list(pages)
        self._columns = msgspec.json.encode([{"name": name, "type": kind} for name, kind in columns.items()]).decode()

    async def get(self, path: str, parameters: Mapping[str, object]) -> bytes:
        self.asked.append((path, {name: value for name, value in parameters.items() if value is not None}))
        items = self._pages[len(self.asked) - 1]
        following = f'"c{len(self.asked)}"' if len(self.asked) < len(self._pages) else "null"
        return f'{{"items":[{items}],"next":{following},"columns":{self._columns}}}'.encode()


async def all_of(rows: AsyncIterator[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row async for row in rows]


async def test_every_type_of_column_is_a_python_value() -> None:
    [row] = await all_of(read_rows(FakeHttp(FULL), "orders"))  # type: ignore[arg-type]  # a fake

    assert row == {
        "id": "o-1",
        "number": 9007199254740993,
        "gross": Decimal("1000000000000000000000000000000.01"),
        "paid": True,
        "at": datetime(2026, 3, 1, 9, 30, 5, 123456, tzinfo=UTC),
        "day": date(2026, 3, 1),
        "who": UUID("0190b5a0-0000-7000-8000-000000000000"),
        "more": {"a": [Decimal("0.1"), Decimal("1e400"), 123456789012345678901234567890]},
        "_part": 0,
    }
    assert row["at"].tzinfo is UTC
    assert floats_in(row) == []


def floats_in(value: object) -> list[float]:
    if isinstance(value, dict | list):
        return [found for each in (value.values() if isinstance(value, dict) else value) for found in floats_in(each)]
    return [value] if isinstance(value, float) else []


async def test_a_column_without_a_value_is_none() -> None:
    [row] = await all_of(read_rows(FakeHttp(EMPTY), "orders"))  # type: ignore[arg-type]  # a fake

    assert row == dict.fromkeys(COLUMNS) | {"id": "o-2", "_part": 1}


async def test_pages_follow_each_other_and_key_columns_are_parameters() -> None:
    http = FakeHttp(FULL, EMPTY, "")
    key = {"id": "a/b", "at": datetime(2026, 3, 1, tzinfo=UTC), "paid": False, "gross": Decimal("1E+2")}

    rows = await all_of(read_rows(http, "orders", key, rows_a_page=1))  # type: ignore[arg-type]  # a fake

    sent = {"id": "a/b", "at": "2026-03-01T00:00:00+00:00", "paid": "false", "gross": "100", "limit": 1}
    assert [row["id"] for row in rows] == ["o-1", "o-2"]
    assert http.asked == [("/api/tables/orders", sent | more) for more in ({}, {"cursor": "c1"}, {"cursor": "c2"})]


async def test_frames_hold_what_the_rows_hold() -> None:
    def http() -> Any:  # noqa: ANN401 - a fake
        return FakeHttp(FULL, EMPTY)

    arrow, polars = await read_arrow(http(), "orders"), await read_polars(http(), "orders")
    pandas = await read_pandas(http(), "orders")

    expected = (await all_of(read_rows(http(), "orders")))[0]
    expected["who"] = str(expected["who"])
    expected["more"] = '{"a":[0.1,1E+400,123456789012345678901234567890]}'
    nothing = dict.fromkeys(COLUMNS) | {"id": "o-2", "_part": 1}
    assert arrow.to_pylist() == polars.to_dicts() == [expected, nothing]
    assert pandas["gross"].tolist()[0] == expected["gross"]
    assert {name: str(kind) for name, kind in zip(arrow.column_names, arrow.schema.types, strict=True)} == {
        "id": "string", "number": "int64", "gross": "decimal128(38, 2)", "paid": "bool",
        "at": "timestamp[us, tz=UTC]", "day": "date32[day]", "who": "string", "more": "string", "_part": "int32",
    }  # fmt: skip
    assert polars.schema["gross"] == pl.Decimal(38, 2)
    assert {str(kind) for kind in pandas.dtypes} & {"float64", "object"} == set()


@pytest.mark.parametrize(
    ("values", "arrow", "polars"),
    [
        (["0.01", "1.10"], "decimal128(38, 2)", "Decimal"),
        (["1000000000000000000000000000000", "0.01"], "decimal128(38, 2)", "Decimal"),
        (["0", "-0.00"], "decimal128(38, 2)", "Decimal"),
        (["9" * 38, None], "decimal128(38, 0)", "Decimal"),
        (["-0." + "9" * 38], "decimal128(38, 38)", "Decimal"),
        (["9" * 37, "0.01"], "decimal256(76, 2)", "String"),
        (["9" * 76], "decimal256(76, 0)", "String"),
        (["9" * 76, "0.1"], "string", "String"),
        (["NaN", "1.10"], "string", "String"),
        ([None], "decimal128(38, 0)", "Decimal"),
        ([], "decimal128(38, 0)", "Decimal"),
    ],
)
def test_decimals_have_the_narrowest_type_that_holds_all_of_them(
    values: list[str | None], arrow: str, polars: str
) -> None:
    decimals = [None if value is None else Decimal(value) for value in values]
    frame = Frame({"n": "numeric"}, [{"n": value} for value in decimals])

    table, frame_of_polars, frame_of_pandas = arrow_table(frame), polars_frame(frame), pandas_frame(frame)

    assert str(table.schema.field("n").type) == arrow
    assert frame_of_polars.schema["n"].__class__.__name__ == polars
    for column in (table.column("n").to_pylist(), frame_of_polars["n"].to_list(), frame_of_pandas["n"].tolist()):
        texts = [
            None if value is None or value is pd.NA else value if isinstance(value, str) else f"{value:f}"
            for value in column
        ]
        assert [None if text is None else Decimal(text).normalize() for text in texts if text != "NaN"] == [
            None if value is None else value.normalize() for value in decimals if value is None or value.is_finite()
        ]


def test_an_empty_table_has_its_columns_and_types() -> None:
    frame = Frame(COLUMNS, [])

    assert arrow_table(frame).num_rows == len(polars_frame(frame)) == len(pandas_frame(frame)) == 0
    assert arrow_table(frame).column_names == list(COLUMNS) == polars_frame(frame).columns
    assert str(arrow_table(frame).schema.field("at").type) == "timestamp[us, tz=UTC]"


def test_a_column_that_only_later_pages_have_is_empty_before() -> None:
    frame = Frame({"a": "text", "b": "numeric"}, [{"a": "x"}, {"a": "y", "b": Decimal("1.5")}])

    assert arrow_table(frame).column("b").to_pylist() == [None, Decimal("1.5")]


@pytest.mark.parametrize(
    ("function", "module", "extra"),
    [(arrow_table, "pyarrow", "arrow"), (pandas_frame, "pandas", "pandas"), (polars_frame, "polars", "polars")],
)
def test_a_frame_whose_extra_is_not_installed_names_it(
    function: Any,  # noqa: ANN401 - one of the three
    module: str,
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(ImportError, match=rf"needs {module}.*etlpay-client\[{extra}\]"):
        function(Frame({}, []))


def test_reading_rows_imports_no_library_of_frames() -> None:
    program = "import sys, etlpay_client.tables; print(*sys.modules)"
    printed = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, check=True).stdout

    assert {"pyarrow", "pandas", "polars", "numpy"} & set(printed.split()) == set()
