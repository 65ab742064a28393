"""What the options of tables and columns make of events: elements, tombstones, sums, headers and drift."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.pipelines.compiling import PipelineProgram, compile_pipeline
from shared.pipelines.contract import SchemaError, compile_schema
from shared.pipelines.model import (
    Alternative,
    Check,
    Column,
    Contract,
    CsvRules,
    Drift,
    EventRules,
    Join,
    Otherwise,
    Pipeline,
    Present,
    Rank,
    Table,
    ZoneNames,
)
from support.pipeline_events import ABOUT, causes, decode, told

STAMP = "%Y-%m-%d %H:%M:%S"


def program(*tables: Table, files: dict[str, bytes] | None = None, **parts: Any) -> PipelineProgram:  # noqa: ANN401 - parts of the file
    return compile_pipeline(Pipeline(etlpay=1, name="p", source="s", table=tables, **parts), files or {})


def json_values(payload: object, **columns: Column) -> tuple[object, ...]:
    (row,) = program(Table("t", columns)).run(payload, ABOUT).rows
    return row.values


def test_stars_go_through_arrays_and_members_of_objects() -> None:
    columns = {
        "outer": Column(from_="/l/*/id"),
        "line": Column(from_="@index", type="integer"),
        "name": Column(from_="@key"),
        "worth": Column(from_="@value"),
        "root": Column(from_="/id"),
    }
    made = program(Table("t", columns, at="/l/*/m/*", except_=("b",)))

    rows = made.run({"id": "r", "l": [{"id": "x", "m": {"a": "1", "b": "2", "c": "3"}}, {}, {"m": ["4"]}]}, ABOUT).rows

    assert [row.values for row in rows] == [("x", 0, "a", "1", "r"), ("x", 2, "c", "3", "r"), (None, 0, None, "4", "r")]
    assert [row.part for row in rows] == [0, 1, 2]


def test_a_problem_names_the_element_and_its_cause_does_not() -> None:
    made = program(Table("t", {"c": Column(required=True)}, at="/l/*/m/*")).run({"l": [{"m": [{"c": "x"}, {}]}]}, ABOUT)

    assert (told(made), causes(made), made.rows) == ({"/l/0/m/1/c": "missing"}, ["p.t.c:missing"], ())


def test_a_step_of_digits_is_an_index_of_an_array_and_a_name_of_an_object() -> None:
    column = Column(from_="/l/1/a")

    assert json_values({"l": [{}, {"a": "x"}]}, c=column) == ("x",)
    assert json_values({"l": {"1": {"a": "y"}}}, c=column) == ("y",)
    assert json_values({"l": [{"a": "x"}]}, c=column) == (None,)


def test_types_may_stand_in_each_element() -> None:
    table = Table("t", {"id": Column()}, at="/items/*", types=("A*",))
    made = program(table, event=EventRules(type="/items/*/code"))
    payload = {"items": [{"code": "AUTH", "id": "1"}, {"code": "B", "id": "2"}, {"id": "3"}]}

    assert [row.values for row in made.run(payload, ABOUT).rows] == [("1",)]
    assert made.run({"items": [{"code": "B"}]}, ABOUT).matched is False
    assert len(made.run(payload, ABOUT._replace(type="Axx")).rows) == 3


@pytest.mark.parametrize(
    ("condition", "taken"),
    [
        (True, [True]),
        (1, [1]),
        ("1", ["1"]),
        ((1, "true"), [1, "true"]),
        (Present(present=True), [True, 1, "1", "true", {}, []]),
        (Present(present=False), [None]),
    ],
)
def test_conditions_hold_by_type_and_value(condition: Any, taken: list[object]) -> None:  # noqa: ANN401 - a condition
    made = program(Table("t", {"c": Column(from_="/x")}, when={"/k": condition}))
    values: list[object] = [True, 1, "1", "true", None, {}, []]

    assert [value for value in values if made.run({"k": value}, ABOUT).matched] == taken


def test_conditions_of_a_csv_row_are_held_against_texts() -> None:
    made = program(Table("t", {"c": Column(from_="x")}, when={"k": (True, 1)}))

    assert [text for text in ("true", "1", "True", "", "0") if made.run_row(("k", "x"), (text, ""), ABOUT).matched] == [
        "true",
        "1",
    ]


def test_a_tombstone_needs_only_its_key_and_newest() -> None:
    columns = {
        "id": Column(),
        "at": Column(type="timestamp", as_="unix"),
        "status": Column(values=("a", "b"), required=True),
        "amount": Column(type="money", currency="currency", required=True),
        "currency": Column(type="currency"),
    }
    made = program(
        Table(
            name="t",
            columns=columns,
            mode="latest",
            key=("id",),
            newest="at",
            rank=Rank("status", ("a", "b")),
            gone={"/deleted": True},
            check=("amount >= 0",),
        )
    )

    gone = made.run({"id": "1", "at": 5, "deleted": True, "status": "zzz"}, ABOUT)
    bad = made.run({"at": 5, "deleted": True}, ABOUT)

    assert gone.gone == {0}
    assert gone.rows[0].values == ("1", datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC), None, None, None)
    assert causes(bad) == ["p.t.id:missing"]
    assert len(made.run({"id": "1", "at": 5}, ABOUT).problems) == 2


LINES = Table("lines", {"net": Column(type="decimal")}, at="/lines/*")


@pytest.mark.parametrize(
    ("check", "lines", "holds"),
    [
        ("total = sum(lines.net)", '[{"net": 1.50}, {"net": "2.5"}]', True),
        ("total = sum(lines.net)", '[{"net": 1.51}, {"net": "2.5"}]', False),
        ("total = sum(lines.net)", "[{}]", False),
        ("count(lines) = 2", "[{}, {}]", True),
        ("count(lines) > 2", "[{}, {}]", False),
        ("total - 4 = sum(lines.net)", "[]", True),
        (Check("total = 4 + sum(lines.net)", empty=0), "[{}]", True),
    ],
)
def test_a_check_sums_the_rows_of_the_event(check: str | Check, lines: str, *, holds: bool) -> None:
    made = program(Table("heads", {"total": Column(type="integer")}, check=(check,)), LINES)

    result = made.run(decode(f'{{"total": 4, "lines": {lines}}}'), ABOUT)

    assert [problem.code for problem in result.problems] == ([] if holds else ["check"])


def test_sums_over_rows_with_problems_are_not_told() -> None:
    made = program(Table("heads", {"total": Column(type="integer")}, check=("total = sum(lines.net)",)), LINES)

    assert causes(made.run({"total": 4, "lines": [{"net": "x"}]}, ABOUT)) == ["p.lines.net:type"]


def test_a_tombstone_counts_in_no_sum() -> None:
    head = Table("heads", {"total": Column(type="integer")}, check=("total = sum(lines.n)", "count(lines) = 1"))
    lines = Table("lines", {"n": Column(type="integer")}, at="/lines/*", key=("n",), gone={"./gone": True})

    made = program(head, lines).run({"total": 4, "lines": [{"n": 4}, {"n": 5, "gone": True}]}, ABOUT)

    assert (causes(made), set(made.gone)) == ([], {2})


@pytest.mark.parametrize(
    ("number", "code"),
    [("1E-1001", "precision"), ("1E+1000", "max"), ("-1E+1000", "min"), ("1E+999", None), ("1E-1000", None)],
)
@pytest.mark.parametrize("quote", ["", '"'])
def test_a_decimal_has_a_thousand_digits_at_most_on_each_side(number: str, code: str | None, quote: str) -> None:
    made = program(Table("t", {"c": Column(type="decimal")})).run(decode(f'{{"c": {quote}{number}{quote}}}'), ABOUT)

    assert told(made) == ({"/c": code} if code else {})


def test_amounts_of_different_decimals_are_compared_exactly() -> None:
    columns = {
        "gross": Column(type="money", currency="currency"),
        "fee": Column(type="money", currency="currency", digits=6),
        "net": Column(type="money", currency="currency"),
        "currency": Column(type="currency"),
    }
    made = program(Table("t", columns, check=("gross - fee >= net",)))

    def told_of(net: str) -> list[str]:
        return causes(made.run({"gross": "10.00", "fee": "0.123456", "net": net, "currency": "EUR"}, ABOUT))

    assert told_of("9.87") == []
    assert told_of("9.88") == ["p.t:check gross - fee >= net"]


def test_a_noted_check_keeps_the_row() -> None:
    made = program(Table("t", {"c": Column(type="integer")}, check=(Check("c < 5", level="note"),))).run(
        {"c": 7}, ABOUT
    )

    assert (len(made.rows), made.problems, [note.cause for note in made.notes]) == (1, (), ["p.t:check c < 5"])


def test_the_place_of_the_value_that_was_taken_is_told_and_its_sign_counts() -> None:
    column = Column(from_=(Alternative("/credit"), Alternative("/debit", negate=True)), type="integer")

    assert json_values({"credit": 5}, c=column) == (5,)
    assert json_values({"debit": 5}, c=column) == (-5,)
    assert told(program(Table("t", {"c": column})).run({"debit": "5"}, ABOUT)) == {"/debit": "type"}


def test_texts_are_joined_where_all_are_there() -> None:
    joined = Column(from_=Join(("/date", "/time"), " "), type="timestamp", as_=STAMP, zone="Europe/Berlin")

    assert json_values({"date": "2024-07-01", "time": "12:00:00"}, c=joined) == (datetime(2024, 7, 1, 10, tzinfo=UTC),)
    assert json_values({"date": "2024-07-01"}, c=joined) == (None,)
    assert told(program(Table("t", {"c": joined})).run({"date": 5, "time": "x"}, ABOUT)) == {"/date": "type"}


@pytest.mark.parametrize(
    ("zone", "text", "expected"),
    [
        ("CEST", "2024-10-27 02:30:00", datetime(2024, 10, 27, 0, 30, tzinfo=UTC)),
        ("CET", "2024-10-27 02:30:00", datetime(2024, 10, 27, 1, 30, tzinfo=UTC)),
        ("EST", "2024-10-27 02:30:00", None),
        ("", "2024-10-27 02:30:00", None),
        ("CET", "2024-10-27 24:00:00", None),
    ],
)
def test_names_of_zones_are_read_by_a_list(zone: str, text: str, expected: datetime | None) -> None:
    names = ZoneNames("TimeZone", {"CET": "+01:00", "CEST": "+02:00"})
    made = program(Table("t", {"c": Column(from_="At", type="timestamp", as_=STAMP, zone=names)}))

    result = made.run_row(("At", "TimeZone"), (text, zone), ABOUT)

    assert [row.values for row in result.rows] == ([] if expected is None else [(expected,)])
    assert told(result) == ({"/At": "time"} if expected is None else {})


def test_what_is_known_of_the_event_needs_no_text() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=1)
    about = ABOUT._replace(row=7, file="f.csv", file_at=moment)
    columns = {
        "row": Column(from_="@row", type="integer"),
        "row_text": Column(from_="@row"),
        "file": Column(from_="@file"),
        "at": Column(from_="@file_at", type="timestamp"),
        "day": Column(from_="@file_at", type="date", zone="America/New_York"),
        "id": Column(from_="@id"),
    }
    made = program(Table("t", columns))

    expected = (7, "7", "f.csv", moment, date(2025, 12, 31), None)
    assert made.run({}, about).rows[0].values == expected
    assert made.run_row((), (), about).rows[0].values == expected


def test_a_column_that_the_header_lacks_or_has_twice_is_absent() -> None:
    made = program(
        Table("t", {"a": Column(), "b": Column(optional=True), "c": Column(from_="#3"), "d": Column(from_=("x", "a"))})
    )

    assert told(made.run_row(("b", "a", "z"), ("1", "2", "3"), ABOUT)) == {}
    assert told(made.run_row(("z", "y", "b"), ("1", "2", "3"), ABOUT)) == {"/a": "absent", "/x": "absent"}
    assert told(made.run_row(("a", "a"), ("1", "2"), ABOUT)) == {"/a": "absent", "#3": "absent", "/x": "absent"}
    assert causes(made.run_row(("a",), ("1",), ABOUT)) == ["p.t.c:absent"]


def test_a_condition_on_a_column_that_the_header_lacks_is_told() -> None:
    made = program(Table("t", {"a": Column()}, when={"kind": "T"}))

    assert causes(made.run_row(("a",), ("1",), ABOUT)) == ["p.t:absent"]


def test_a_row_of_another_length_than_its_header_is_unreadable() -> None:
    assert causes(program(Table("t", {"a": Column()})).run_row(("a", "b"), ("1",), ABOUT)) == ["p:unreadable"]


def test_columns_that_nothing_reads_are_noted_by_name() -> None:
    made = program(Table("t", {"a": Column(), "b": Column(from_="#2")}))

    result = made.run_row(("a", "z", "new/one", "", "old"), ("1", "secret", "secret", "", ""), ABOUT)

    assert [(note.pointer, note.code) for note in result.notes] == [
        ("/new~1one", "unknown_member"),
        ("/old", "unknown_member"),
    ]


@pytest.mark.parametrize("rule", ["ignore", "note", "fail"])
def test_members_beside_those_that_are_read_are_told_two_levels_deep(rule: Any) -> None:  # noqa: ANN401 - a literal
    columns = {"a": Column(from_="/data/object/a"), "deep": Column(from_="/data/object/o/x/y")}
    made = program(Table("t", columns), drift=Drift(unknown_member=rule))
    payload = {"new": 1, "data": {"object": {"a": "x", "b": 2, "o": {"x": {}, "unseen": 1}}, "odd": 3}}

    for _ in range(2):
        result = made.run(payload, ABOUT)
        names = [each.pointer for each in (result.problems if rule == "fail" else result.notes)]
        assert names == ([] if rule == "ignore" else ["/new", "/data/odd", "/data/object/b"])
    assert made.run({"data": {"object": {"a": "x"}}}, ABOUT).notes == ()


def test_twenty_unknown_members_are_told_at_most() -> None:
    made = program(Table("t", {"a": Column()}), drift=Drift(unknown_member="note"))

    assert len(made.run({str(number): "secret" for number in range(100)}, ABOUT).notes) == 20


@pytest.mark.parametrize(
    ("column", "raw", "value", "noted"),
    [
        (Column(values=("a",), otherwise="note"), "b", "b", True),
        (Column(values=("a",), otherwise=Otherwise("other")), "b", "other", False),
        (Column(values={"a": "x"}, otherwise="note"), "b", "b", True),
        (Column(values={"a": "x"}, otherwise=Otherwise("other")), "b", "other", False),
        (Column(values={"J": "true", "N": "false"}, type="boolean"), "J", True, False),
        (Column(type="integer", on_error="null"), "b", None, True),
    ],
)
def test_an_unlisted_value_is_noted_or_replaced(column: Column, raw: str, value: object, *, noted: bool) -> None:
    made = program(Table("t", {"c": column, "raw": Column(from_="c")})).run({"c": raw}, ABOUT)

    assert made.rows[0].values == (value, raw)
    assert len(made.notes) == noted


def test_texts_that_mean_no_value_are_those_of_the_file() -> None:
    made = program(Table("t", {"a": Column(trim=True), "b": Column()}), csv=CsvRules(("", "..")))

    assert made.run_row(("a", "b"), (" .. ", ".."), ABOUT).rows[0].values == (None, None)
    assert made.run_row(("a", "b"), (" NA ", " .. "), ABOUT).rows[0].values == ("NA", " .. ")


SCHEMA = b'{"type": "object", "required": ["id"], "properties": {"id": {"type": "string", "pattern": "^(a+)+$"}}}'


def test_a_schema_is_checked_beside_the_columns_and_tells_no_value() -> None:
    made = program(Table("t", {"id": Column(required=True)}), contract=Contract("s.json"), files={"s.json": SCHEMA})

    assert made.run({"id": "aa"}, ABOUT).problems == ()
    assert causes(made.run({}, ABOUT)) == ["p:schema.required", "p.t.id:missing"]
    bad = made.run({"id": "a" * 5_000 + "secret"}, ABOUT)
    assert (told(bad), "secret" in repr(bad)) == ({"/id": "schema.pattern"}, False)
    assert causes(made.run_row(("id",), ("b",), ABOUT)) == ["p:schema.pattern /properties/id"]


def test_a_schema_beside_the_file_is_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_bytes(SCHEMA)

    with pytest.raises(SchemaError):
        compile_schema("p", b'{"$ref": "%s"}' % (tmp_path / "other.json").as_uri().encode())


@pytest.mark.parametrize(
    "schema",
    [
        b"[",
        b'{"type": 5}',
        b'{"$ref": "http://127.0.0.1:1/x.json"}',
        b'{"$ref": "file:///etc/passwd"}',
        b'{"pattern": "(?=a)"}',
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: bytes) -> None:
    with pytest.raises(SchemaError):
        compile_schema("p", schema)
