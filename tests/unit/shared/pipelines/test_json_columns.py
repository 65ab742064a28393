"""JSON values in rows: exact, and only what PostgreSQL can keep."""

import pytest

from shared.pipelines.compiling import compile_pipeline
from shared.pipelines.model import Column, Pipeline, Table
from support.pipeline_events import ABOUT, decode, told

PROGRAM = compile_pipeline(
    Pipeline(etlpay=1, name="p", source="s", table=(Table("t", {"c": Column(type="json")}),)),
)
REFUSED = {
    "nul": '"\\u0000"',
    "nul in a name": '{"\\u0000": 1}',
    "cut": "{",
    "nan": "NaN",
    "digits": "1e131072",
    "decimals": "1e-20000",
    "deep": "[" * 100_000,
    "exponent": "1e99999999999999999999",
    "nothing": " ",
}


@pytest.mark.parametrize("text", ['{"a":[1.10,"x",-1E+400]}', '"\\\\u0000"', "9007199254740993", "null", '"\u0663"'])
def test_a_json_text_of_a_csv_cell_is_kept_exactly(text: str) -> None:
    (row,) = PROGRAM.run_row(("c",), (text,), ABOUT).rows

    assert row.values == (text.encode(),)


@pytest.mark.parametrize("name", REFUSED)
def test_a_text_that_is_no_json_value_is_refused(name: str) -> None:
    made = PROGRAM.run_row(("c",), (REFUSED[name],), ABOUT)

    assert (made.rows, told(made)) == ((), {"/c": "type"})


def test_a_member_is_kept_with_its_numbers() -> None:
    (row,) = PROGRAM.run(decode('{"c": {"a": 1.10, "b": [9007199254740993, null]}}'), ABOUT).rows

    assert row.values == (b'{"a":1.10,"b":[9007199254740993,null]}',)


def test_a_value_that_is_nested_too_deeply_is_no_exception() -> None:
    value: object = "x"
    for _ in range(100_000):
        value = [value]

    assert told(PROGRAM.run({"c": value}, ABOUT)) == {"/c": "type"}
