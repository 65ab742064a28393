"""A proposal for events is a sound pipeline file; each guess says on how many events it stands."""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from shared.pipelines.document.problems import has_errors
from shared.pipelines.document.reading import read_pipeline
from shared.pipelines.linting.pipeline import lint
from shared.pipelines.proposals import inferring
from shared.pipelines.proposals.guessing import slug, table_name
from shared.pipelines.proposals.inferring import InferError, infer_pipeline
from shared.pipelines.trials.samples import SampleEvent, read_events

SAMPLES = Path(__file__).parents[4] / "pipelines" / "examples" / "samples"


def propose(events: Sequence[SampleEvent]) -> str:
    return infer_pipeline(events, name="shop", source="shop")


def proposed(events: Sequence[SampleEvent]) -> dict[str, Any]:
    return tomllib.loads(propose(events))


def json_events(*payloads: object) -> list[SampleEvent]:
    return [SampleEvent("x.json", payload) for payload in payloads]


def csv_events(header: Sequence[str], *rows: Sequence[str]) -> list[SampleEvent]:
    return [SampleEvent("x.csv", header=tuple(header), fields=tuple(row)) for row in rows]


def columns_of(events: Sequence[SampleEvent], table: int = 0) -> dict[str, Any]:
    columns: dict[str, Any] = proposed(events)["table"][table]["columns"]
    return columns


@pytest.mark.parametrize("folder", sorted(SAMPLES.iterdir()), ids=lambda folder: folder.name)
def test_a_proposal_is_read_and_has_no_error(folder: Path) -> None:
    files = sorted(folder.iterdir())
    text = propose([event for file in files for event in read_events(file.name, file.read_bytes())])

    def read(_: str) -> bytes:
        return text.encode()

    pipeline, problems = read_pipeline("shop.toml", read)

    assert problems == ()
    assert pipeline is not None
    assert not has_errors(lint(pipeline, read, "shop.toml"))


@pytest.mark.parametrize(
    ("values", "column"),
    [
        ([True, False], {"from": "/m", "type": "boolean", "required": True}),
        ([1, 2], {"from": "/m", "type": "integer", "required": True}),
        ([1, None], {"from": "/m", "type": "integer"}),
        ([1_772_357_400, 1_772_357_405], {"from": "/m", "type": "timestamp", "as": "unix", "required": True}),
        ([1_772_357_400_000], {"from": "/m", "type": "timestamp", "as": "unix_ms", "required": True}),
        (["2026-03-01T09:30:00Z"], {"from": "/m", "type": "timestamp", "required": True}),
        (["2026-03-01"], {"from": "/m", "type": "date", "required": True}),
        (["2026-03-01", "later"], {"from": "/m", "required": True}),
        (["01"], {"from": "/m", "required": True}),
        ([[1]], {"from": "/m", "type": "json", "required": True}),
        ([1, "1"], {"from": "/m", "type": "json", "required": True}),
    ],
)
def test_a_type_is_proposed_that_every_value_has(values: list[object], column: dict[str, Any]) -> None:
    assert columns_of(json_events(*({"m": value} for value in values)))["m"] == column


def test_texts_of_csv_are_numbers_where_all_of_them_are() -> None:
    columns = columns_of(csv_events(["n", "d", "account"], ["1", "1.5", "007"], ["", "2", "8"]))

    assert columns["n"] == {"from": "n", "type": "integer"}
    assert columns["d"]["type"] == "decimal"
    assert "type" not in columns["account"]


def test_an_amount_is_money_where_a_currency_stands_beside_it() -> None:
    document = proposed(json_events({"amount": 1099, "currency": "eur", "other": {"amount": 5}}))

    assert document["money"] == {"units": "minor", "exponents": "iso"}
    assert document["table"][0]["columns"]["amount"] == {
        "from": "/amount", "type": "money", "currency": "currency", "required": True,
    }  # fmt: skip
    assert columns_of(json_events({"amount": 1099}))["amount"]["type"] == "integer"


def test_an_amount_finer_than_cents_keeps_its_digits() -> None:
    columns = columns_of(csv_events(["Fee", "Currency"], ["0.153821", "EUR"], ["1.5", "EUR"]))

    assert columns["fee"] == {"from": "Fee", "type": "money", "currency": "currency", "digits": 6, "required": True}


def test_the_currency_of_an_element_may_stand_outside_of_it() -> None:
    columns = columns_of(json_events({"order": {"currency": "EUR", "lines": [{"net": "1.50"}, {"net": "2"}]}}), 1)

    assert columns["net"] == {"from": "./net", "type": "money", "currency": "currency", "required": True}
    assert columns["currency"]["from"] == "/order/currency"


def test_an_amount_that_stood_somewhere_without_its_currency_is_a_number() -> None:
    events = json_events({"net": "1.50", "currency": "EUR"}, {"net": "2"}, {"currency": "EUR"})

    assert columns_of(events)["net"] == {"from": "/net", "type": "decimal"}


def test_a_number_too_large_for_its_type_is_a_decimal_number() -> None:
    columns = columns_of(json_events({"amount": 10**17, "currency": "EUR", "count": 2**63}))

    assert (columns["amount"]["type"], columns["count"]["type"]) == ("integer", "decimal")


def test_a_rate_is_no_amount() -> None:
    assert columns_of(json_events({"vat_rate": "19", "currency": "EUR"}))["vat_rate"] == {
        "from": "/vat_rate", "required": True,
    }  # fmt: skip


def test_an_id_or_the_expanded_object_is_one_column() -> None:
    columns = columns_of(json_events({"customer": "c-1"}, {"customer": {"id": "c-2", "name": "Ana"}}))

    assert columns == {"customer": {"from": ["/customer/id", "/customer"], "required": True}}


@pytest.mark.parametrize("expanded", [{"id": 1}, {"name": "Ana"}])
def test_a_text_or_an_object_without_that_text_is_json(expanded: dict[str, object]) -> None:
    columns = columns_of(json_events({"customer": "c-1"}, {"customer": {"id": "c-2"}}, {"customer": expanded}))

    assert columns["customer"] == {"from": "/customer", "type": "json", "required": True}


def test_each_family_of_types_and_each_array_of_objects_is_a_table() -> None:
    document = proposed(
        json_events(
            {"id": "1", "type": "order.created", "lines": [{"sku": "a"}]},
            {"id": "2", "type": "order.changed", "lines": []},
            {"id": "3", "type": "ping"},
        )
    )

    assert document["event"] == {"id": "/id", "type": "/type"}
    assert [(table["name"], table["types"], table.get("at")) for table in document["table"]] == [
        ("orders", ["order.*"], None),
        ("order_lines", ["order.*"], "/lines/*"),
        ("ping", ["ping"], None),
    ]


def test_tables_have_names_of_their_own() -> None:
    events = json_events(*({"type": name, "n": 1} for name in ("a-b.x", "a_b.x", "a_b", "漢字.x", "名.x")))

    tables = proposed(events)["table"]

    assert [table["name"] for table in tables] == ["a_b", "a_b_2", "c", "c_2"]
    assert tables[1]["types"] == ["a_b", "a_b.*"]


def test_the_latest_state_is_proposed_where_an_event_names_what_it_is_about_and_when() -> None:
    events = json_events(
        {"id": "e-1", "created": 1_772_357_400, "data": {"id": "p-1"}},
        {"id": "e-2", "created": 1_772_357_401, "data": {"id": "p-1"}},
    )

    (table,) = proposed(events)["table"]

    assert (table["mode"], table["key"], table["newest"]) == ("latest", ["data_id"], "created")
    assert table["columns"]["data_id"]["from"] == "/data/id"


def test_a_guess_says_on_how_many_events_it_stands() -> None:
    text = propose(json_events(*({"m": None if number % 3 else "x", "n": 1} for number in range(1200))))

    assert re.search(r'^m += "/m" +# 400 of 1,200; 800 null$', text, re.MULTILINE)


def test_a_member_of_fewer_than_one_event_in_a_hundred_is_no_column() -> None:
    rare = [{"m": 1} for _ in range(200)] + [{"m": 1, "rare": 2}]

    assert list(columns_of(json_events(*rare))) == ["m"]


def test_values_are_listed_where_few_cover_everything() -> None:
    often = json_events(*({"status": ("open", "paid")[number % 2], "note": f"n{number}"} for number in range(30)))

    assert columns_of(often)["status"]["values"] == ["open", "paid"]
    assert "values" not in columns_of(often)["note"]
    assert "values" not in columns_of(often[:4])["status"]


def test_what_looks_personal_is_masked_and_never_printed() -> None:
    people = json_events(
        *({"email": "ana@example.com", "phone": "+49 30 5550 1234", "name": "Ana", "tax_id": "DE99"} for _ in range(30))
    )
    text = propose(people)

    assert tomllib.loads(text)["mask"] == {"/email": "hmac", "/phone": "last4", "/tax_id": "drop"}
    assert "tax_id" not in columns_of(people)
    assert not re.search(r"ana|5550|DE99", text, re.IGNORECASE)


def test_columns_of_one_name_are_named_by_position() -> None:
    columns = columns_of(csv_events(["Name", "Name", "", "Größe"], ["a", "b", "c", "d"]))

    assert {name: column["from"] for name, column in columns.items()} == {
        "name": "#1", "name_2": "#2", "c": "#3", "groesse": "Größe",
    }  # fmt: skip


def test_a_column_that_not_every_file_has_is_optional() -> None:
    columns = columns_of([*csv_events(["a"], ["1"]), *csv_events(["b", "a"], ["x", "2"])])

    assert columns == {
        "a": {"from": "a", "type": "integer", "required": True},
        "b": {"from": "b", "optional": True},
    }


def test_what_stands_below_a_masked_place_becomes_no_column() -> None:
    events = json_events({"a": 1, "email": "x@example.com"}, {"a": 2, "email": {"id": [{"id": True}], "n": 1}})

    assert [table["columns"].keys() for table in proposed(events)["table"]] == [{"a"}]


def test_decimal_commas_are_told() -> None:
    events = csv_events(["Betrag", "Währung"], ["1,50", "EUR"], ["20", "EUR"])

    assert proposed(events)["csv"]["decimal"] == ","
    assert columns_of(events)["betrag"]["type"] == "money"


def test_only_the_first_events_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inferring, "EVENTS_MAX", 2)

    text = propose(json_events({"a": 1}, {"a": 2}, {"b": 3}))

    assert text.startswith("# Proposed from the first 2 of 3 events.")
    assert '"/b"' not in text


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([], "there is no event"),
        ([*json_events({}), *csv_events(["a"], ["1"])], "cannot be of one pipeline"),
        (json_events(1), "no JSON object"),
    ],
)
def test_what_cannot_be_proposed_is_said(events: list[SampleEvent], message: str) -> None:
    with pytest.raises(InferError, match=message):
        propose(events)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("camelCase", "camel_case"),
        ("Net Debit (NC)", "net_debit_nc"),
        ("7 days", "c_7_days"),
        ("é", "e"),
        ("漢字", "c"),
    ],
)
def test_a_name_holds_small_letters_digits_and_underscores(text: str, name: str) -> None:
    assert slug(text) == name


def test_a_word_of_sql_names_no_table() -> None:
    assert table_name("order") == "orders"
