"""The tests of a pipeline: what they take in, what they compare, and what always holds without being written."""

from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from shared.pipelines.model import Column, Of, Pipeline, Table
from shared.pipelines.program import Attributes, Made, RowProblem, TypedRow, Value
from shared.pipelines.trials.expectations import (
    ExpectedProblem,
    PipelineTest,
    TestFileError,
    read_tests,
    with_expectations,
)
from shared.pipelines.trials.samples import SampleError, change_event, read_events
from shared.pipelines.trials.testing import TestResult, coverage_warnings, run_tests
from shared.pipelines.values.texts import text_of

PIPELINE = Pipeline(
    etlpay=1,
    name="shop",
    source="shop-*",
    mask={"/mail": "domain"},
    table=(
        Table(
            name="orders",
            columns={"id": Column(), "at": Column(type="integer"), "amount": Column(type="money", currency="currency")},
            mode="latest",
            key=("id",),
            newest="at",
        ),
        Table(name="lines", columns={"id": Column(), "sku": Column()}, of=Of("orders", ("id",))),
    ),
)
SAMPLES = {
    "one.json": b'{"id": "o-1", "at": 1, "amount": 1099, "lines": ["a", "b"], "mail": "ana@example.com"}',
    "two.json": b'{"id": "o-1", "at": 2, "amount": 500, "lines": ["a"]}',
    "many.ndjson": b'{"id": "o-1", "at": 1, "amount": 1, "lines": []}\n\n'
    b'{"id": "o-2", "at": 1, "amount": 2, "lines": []}\n',
    "rows.csv": b"id;amount\r\no-1;5\r\no-2;6\r\n",
}


class ShopProgram:
    """A program written by hand: an order and its lines; an order whose amount is a text is a problem."""

    pipeline = PIPELINE
    source_code = ""

    def __init__(self, amount: Callable[[Any], Value] = lambda amount: (amount, 2)) -> None:
        self.amount = amount
        self.abouts: list[Attributes] = []

    def run(self, payload: object, about: Attributes) -> Made:
        self.abouts.append(about)
        assert isinstance(payload, dict)
        if payload.get("deleted"):
            left = TypedRow(1, 0, (payload["id"], "left over"))
            return Made((TypedRow(0, 0, (payload["id"], payload["at"], None)), left), gone=frozenset({0}))
        if isinstance(payload.get("amount"), str):
            return Made(problems=(RowProblem("/amount", "type", "must be a whole number", "shop.orders.amount:type"),))
        lines = [TypedRow(1, part, (payload["id"], sku)) for part, sku in enumerate(payload["lines"])]
        return Made((TypedRow(0, 0, (payload["id"], payload["at"], self.amount(payload["amount"]))), *lines))

    def run_row(self, header: Sequence[str], fields: Sequence[str], about: Attributes) -> Made:
        named = dict(zip(header, fields, strict=True))
        return self.run({"id": named["id"], "at": 1, "amount": int(named["amount"]), "lines": []}, about)


def results_of(text: str, program: ShopProgram | None = None) -> tuple[TestResult, ...]:
    return run_tests(PIPELINE, program or ShopProgram(), read_tests(text.encode()), SAMPLES.get)


def problems_of(text: str, program: ShopProgram | None = None) -> tuple[str, ...]:
    (result,) = results_of('[[test]]\nname = "it"\n' + text, program)
    return result.problems


def test_only_the_named_columns_are_compared_as_exact_text() -> None:
    assert problems_of('event = "one.json"\n[[test.rows.orders]]\namount = "10.99"\n') == ()
    assert problems_of('event = "one.json"\n[[test.rows.orders]]\namount = "10.990"\nat = 1\n') == (
        "orders row 1: amount: expected 10.990, is 10.99",
    )


def test_a_table_that_is_named_has_exactly_the_rows_that_stand_there() -> None:
    assert problems_of('event = "one.json"\n[[test.rows.lines]]\nsku = "a"\n') == (
        "lines: number of rows: expected 1, is 2",
    )
    assert problems_of('event = "one.json"\nrows.lines = []\n') == ("lines: number of rows: expected 0, is 2",)


def test_what_is_named_in_a_test_must_be_in_the_pipeline() -> None:
    assert problems_of('event = "one.json"\n[[test.rows.order]]\n') == ("rows.order: the pipeline has no such table",)
    assert problems_of('event = "one.json"\n[[test.rows.orders]]\namuont = "1"\n') == (
        "orders row 1: amuont: there is no such column",
    )


def test_the_latest_state_is_shown_and_only_the_lines_of_its_event() -> None:
    rows = '[[test.rows.orders]]\namount = "5.00"\n[[test.rows.lines]]\nsku = "a"\n'

    assert problems_of('events = ["one.json", "two.json"]\norder = "any"\n' + rows) == ()
    assert problems_of('events = ["two.json", "one.json"]\n' + rows) == ()


def test_a_row_that_is_gone_is_hidden_with_its_lines_and_cannot_come_back() -> None:
    deleted = 'events = ["two.json", "one.json"]\nrows = { orders = [], lines = [] }\n'
    SAMPLES["gone.json"] = b'{"id": "o-1", "at": 3, "deleted": true}'

    assert problems_of(deleted.replace("two.json", "gone.json")) == ()


def test_an_order_of_arrival_that_makes_other_rows_is_told() -> None:
    """Both are of one moment, and nothing breaks the tie but the order of arrival."""
    SAMPLES["tie.json"] = b'{"id": "o-1", "at": 1, "amount": 7, "lines": []}'

    assert problems_of('events = ["one.json", "tie.json"]\norder = "any"\nrows = {}\n') == (
        "orders: the order [2, 1] of the events makes other rows",
    )


def test_problems_are_compared_by_place_code_and_cause() -> None:
    head = 'event = "one.json"\nchange = { "/amount" = "x" }\n'

    assert problems_of(head + 'fails = [{ at = "/amount", code = "type" }]\n') == ()
    assert problems_of(head + 'fails = [{ at = "/amount", code = "type", cause = "shop.orders.amount:min" }]\n') == (
        "fails: /amount: type (shop.orders.amount:min) is expected, and did not come",
        "fails: /amount: type (shop.orders.amount:type) came unexpected: must be a whole number",
    )
    assert problems_of(head + "rows = {}\n") == (
        "fails: /amount: type (shop.orders.amount:type) came unexpected: must be a whole number",
    )


def test_a_test_that_states_nothing_fails_until_what_came_out_is_written() -> None:
    (result,) = results_of('[[test]]\nname = "it"\nevent = "one.json"\n')

    assert result.pending
    assert result.problems == ("states neither rows nor fails nor notes; `--update` writes what came out",)


def test_a_float_is_told_whatever_the_test_states() -> None:
    floating: Callable[[Any], Any] = float
    assert problems_of('event = "one.json"\nrows = {}\n', ShopProgram(floating)) == ("orders.amount: is a float",)


def test_a_masked_text_in_a_row_is_told_without_the_text() -> None:
    (problem,) = problems_of('event = "one.json"\nrows = {}\nchange = { "/lines" = ["to ana@example.com"] }\n')

    assert problem == "lines.sku: holds the text at /mail, which is masked"


def test_a_program_that_remembers_is_told() -> None:
    made = iter(range(100))

    problems = problems_of('event = "one.json"\nrows = {}\n', ShopProgram(lambda _: (next(made), 2)))

    assert problems == ("one.json: a replay makes other rows", "events that are replayed change the rows")


def test_the_events_of_a_sample_are_picked_by_number() -> None:
    assert problems_of('event = "many.ndjson"\npick = [2]\n[[test.rows.orders]]\nid = "o-2"\n') == ()
    assert problems_of('event = "rows.csv"\npick = [2]\n[[test.rows.orders]]\namount = "0.06"\n') == ()
    assert problems_of('event = "rows.csv"\npick = [3]\nrows = {}\n') == (
        "pick: there is no event 3; the samples hold 2",
    )


def test_what_is_known_of_events_is_invented_alike_each_time_and_can_be_stated() -> None:
    program = ShopProgram()
    problems_of('event = "rows.csv"\nknown = { source = "shop-1" }\nrows = {}\n', program)

    first, second = program.abouts[:2]
    assert (first.source, first.file, first.row, second.row) == ("shop-1", "rows.csv", 2, 3)
    assert (second.received_at - first.received_at).total_seconds() == 1
    assert second.file_at == first.file_at == first.received_at


def test_tables_and_columns_that_no_test_reaches_are_told() -> None:
    results = results_of('[[test]]\nname = "it"\nevent = "many.ndjson"\nrows = {}\n', ShopProgram(lambda _: None))

    assert coverage_warnings(PIPELINE, results) == (
        "orders.amount: filled in 0 of 2 rows; is its place right?",
        "lines: no test makes a row of it",
    )


@pytest.mark.parametrize(
    ("change", "payload"),
    [
        ({"/a/b": 1}, {"a": {"b": 1, "l": [1, 2]}}),
        ({"/a/new": Decimal("1.10")}, {"a": {"b": 0, "l": [1, 2], "new": Decimal("1.10")}}),
        ({"/a/b": "@remove"}, {"a": {"l": [1, 2]}}),
        ({"/a": "@null"}, {"a": None}),
        ({"/a/l/0": "@remove"}, {"a": {"b": 0, "l": [2]}}),
        ({"/a/l/2": 3}, {"a": {"b": 0, "l": [1, 2, 3]}}),
    ],
)
def test_a_sample_is_changed_at_its_places_and_stays_as_it_was(change: dict[str, Any], payload: object) -> None:
    (event,) = read_events("x.json", b'{"a": {"b": 0, "l": [1, 2]}}')

    assert change_event(event, change).payload == payload
    assert event.payload == {"a": {"b": 0, "l": [1, 2]}}


def test_numbers_of_samples_keep_their_decimals() -> None:
    (event,) = read_events("x.json", b'{"amount": 1.10}')

    assert repr(event.payload) == "{'amount': Decimal('1.10')}"


@pytest.mark.parametrize("place", ["/a/x/y", "/a/l/9", "a.b", "/a/*"])
def test_a_change_of_a_place_that_is_not_there_is_refused(place: str) -> None:
    (event,) = read_events("x.json", b'{"a": {"b": 0, "l": [1, 2]}}')

    with pytest.raises(SampleError, match=r"^change: "):
        change_event(event, {place: "@remove"})


def test_a_change_to_a_date_is_refused_since_json_has_none() -> None:
    (event,) = read_events("x.json", b'{"day": "2026-03-01"}')

    with pytest.raises(SampleError, match="write the value as text"):
        change_event(event, {"/day": date(2026, 3, 2)})


def test_a_huge_number_is_no_huge_text() -> None:
    assert text_of(Decimal("1E+999999999")) == "1E+999999999"
    assert text_of(Decimal("2.1E+12")) == "2100000000000"


def test_a_column_of_a_csv_sample_is_changed_or_taken_away() -> None:
    event, _ = read_events("rows.csv", SAMPLES["rows.csv"])

    changed = change_event(event, {"amount": "7", "/id": "@remove"})

    assert (changed.header, changed.fields) == (("amount",), ("7",))
    with pytest.raises(SampleError, match="write the value as text"):
        change_event(event, {"amount": 7})


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.json", b"{", "x.json: is no JSON"),
        ("x.ndjson", b'{}\n{"a"}\n', "x.ndjson line 2: is no JSON"),
        ("x.csv", b"a,b\n1\n", "x.csv line 2: has 1 fields, the header has 2"),
        ("x.csv", b"a,b\n1,\xff\n", "x.csv: is not UTF-8 from byte 6"),
        ("x.csv", b'a\n"1\n', "x.csv: is no CSV"),
        ("x.csv", b"a,b\n", "x.csv: holds no event"),
        ("x.json", b"[]", "x.json: holds no event"),
        ("x.json", b'"\xff"', "x.json: is not UTF-8 from byte 0"),
        ("x.json", b"[" * 200_000, "x.json: is nested too deeply"),
        ("x.xml", b"", "x.xml: is no sample"),
    ],
)
def test_a_sample_that_cannot_be_read_says_where(name: str, data: bytes, message: str) -> None:
    with pytest.raises(SampleError) as caught:
        read_events(name, data)

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('[[test]]\nname = "a"\n', 1, "names no sample"),
        ('[[test]]\nname = "a"\nevent = "x"\n\n[[test]]\nname = "a"\nevent = "x"\n', 5, "two tests are called 'a'"),
        ('[[test]]\nname = "a"\nevents = ["x"]\nordre = "any"\n', 1, "unknown field `ordre`"),
        ('[[test]]\nname = "a\n', 2, ""),
        ("", 0, "holds no [[test]]"),
        ('[[test]]\nname = "a"\nevent = "x"\n[[test.rows.t]]\namount = 1.5\n', 1, 'as text, as "1.50"'),
        ('[[test]]\nname = "a"\nevent = "x"\ndelimiter = ";;"\n', 1, "length <= 1"),
        ('[[test]]\nname = "a"\nevent = "x"\nknown = { received_at = 2026-01-01T00:00:00 }\n', 1, "timezone"),
    ],
)
def test_a_test_file_that_is_wrong_says_on_which_line(text: str, line: int, message: str) -> None:
    with pytest.raises(TestFileError) as caught:
        read_tests(text.encode())

    assert caught.value.line == line
    assert message in str(caught.value)


def test_what_came_out_is_written_behind_the_test_that_stated_nothing() -> None:
    text = '# kept\n[[test]]\nname = "a"    # kept too\nevent = "x"\n\n[[test]]\nname = "b"\nevent = "y"\nrows = {}\n'
    fails = (ExpectedProblem('/a"b', "type", "c"),)

    written = with_expectations(text, {"a": ({"t": ({"x": "1", "y z": '"'},)}, fails)})

    first, second = read_tests(written.encode())
    assert first == PipelineTest("a", event="x", rows={"t": ({"x": "1", "y z": '"'},)}, fails=fails)
    assert second == PipelineTest("b", event="y", rows={})
    assert "# kept\n" in written
    assert "# kept too\n" in written


def test_an_event_that_makes_nothing_is_written_as_nothing() -> None:
    written = with_expectations('[[test]]\nname = "a"\nevent = "x"\n', {"a": ({"t": ()}, ())})

    assert read_tests(written.encode()) == (PipelineTest("a", event="x", rows={}),)


def test_the_results_are_data() -> None:
    (result,) = results_of('[[test]]\nname = "it"\nevent = "one.json"\nrows = {}\n')

    assert msgspec.json.decode(msgspec.json.encode(result))["rows"]["orders"][0]["amount"] == "10.99"
