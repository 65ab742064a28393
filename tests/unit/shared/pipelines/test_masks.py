"""Masks: what must not be stored is not in a row, a result or a note."""

import hashlib
import hmac
from typing import Any

import pytest

from shared.pipelines.codegen.spots import CompileError
from shared.pipelines.compiling import compile_pipeline
from shared.pipelines.model import Column, Join, Masking, Personal, Pipeline, Table
from shared.pipelines.program import Made
from shared.pipelines.values.masking import keyed_hash, last_four, mail_domain, mask_of, masked
from support.pipeline_events import ABOUT

ADDRESS = "Mila.Jansen@Example.org"


def pipeline(mask: dict[str, Masking], **columns: Column) -> Pipeline:
    return Pipeline(etlpay=1, name="p", source="s", mask=mask, table=(Table(name="t", columns=columns),))


def values(made: Made) -> tuple[object, ...]:
    (row,) = made.rows
    return row.values


def run(mask: dict[str, Masking], payload: object, **columns: Column) -> tuple[object, ...]:
    return values(compile_pipeline(pipeline(mask, **columns), mask_key=b"k").run(payload, ABOUT))


def test_each_method_keeps_what_it_says() -> None:
    assert keyed_hash("a", b"k") == hmac.new(b"k", b"a", hashlib.sha256).hexdigest()
    assert (last_four("DE89370400440532013000"), last_four("1234567")) == ("3000", "****")
    assert (mail_domain(ADDRESS), mail_domain("no address"), mail_domain("odd@")) == ("example.org", None, None)
    assert mask_of("drop", b"k")("x") is None


@pytest.mark.parametrize(
    ("method", "kept"),
    [("drop", None), ("last4", ".org"), ("domain", "example.org"), ("hmac", keyed_hash(ADDRESS, b"k"))],
)
def test_a_masked_place_is_masked_in_the_row(method: Masking, kept: str | None) -> None:
    payload = {"who": {"mail": ADDRESS}}

    assert run({"/who/mail": method}, payload, mail=Column(from_="/who/mail"), other=Column(from_="/x")) == (kept, None)
    assert run({"/who": method}, payload, mail=Column(from_="/who/mail")) == (kept,)
    assert payload == {"who": {"mail": ADDRESS}}


def test_a_text_is_trimmed_and_its_case_changed_before_it_is_masked() -> None:
    column = Column(from_="/mail", trim=True, case="lower")

    assert run({"/mail": "hmac"}, {"mail": f" {ADDRESS} "}, mail=column) == (keyed_hash(ADDRESS.lower(), b"k"),)


def test_every_way_to_a_masked_place_is_masked() -> None:
    columns = {
        "listed": Column(from_=("/none", "/mail")),
        "joined": Column(from_=Join(("/mail", "/id"), "-")),
        "pointed": Column(from_="./mail"),
    }

    assert run({"mail": "drop"}, {"mail": ADDRESS, "id": "1"}, **columns) == (None, None, None)


def test_elements_are_masked_by_a_star() -> None:
    table = Table(
        name="t", at="/l/*", columns={"mail": Column(from_="mail"), "whole": Column(from_="@value", type="json")}
    )
    made = compile_pipeline(Pipeline(etlpay=1, name="p", source="s", mask={"/l/*/mail": "domain"}, table=(table,)))

    rows = made.run({"l": [{"mail": ADDRESS, "n": 1}, {"mail": None}]}, ABOUT).rows

    assert rows[0].values == ("example.org", b'{"mail":"example.org","n":1}')
    assert rows[1].values == (None, b'{"mail":null}')


def test_a_masked_place_within_a_json_value_is_masked() -> None:
    column = Column(from_="/who", type="json")

    assert run({"/who/mail": "drop"}, {"who": {"mail": ADDRESS, "n": 1}}, who=column) == (b'{"mail":null,"n":1}',)
    assert run({"/who": "last4"}, {"who": {"mail": ADDRESS}}, who=column) == (None,)


def test_a_csv_column_is_masked_by_its_name() -> None:
    program = compile_pipeline(pipeline({"IBAN": "last4"}, iban=Column(from_="IBAN"), same=Column(from_="/IBAN")))

    assert values(program.run_row(("x", "IBAN"), ("1", "DE89370400440532013000"), ABOUT)) == ("3000", "3000")


def test_a_csv_column_is_masked_when_it_is_read_by_its_position() -> None:
    program = compile_pipeline(pipeline({"IBAN": "last4"}, iban=Column(from_="#2")))

    assert values(program.run_row(("x", "IBAN"), ("1", "DE89370400440532013000"), ABOUT)) == ("3000",)


def test_only_texts_are_masked_and_numbers_are_dropped() -> None:
    with pytest.raises(CompileError, match=r"t\.amount"):
        compile_pipeline(pipeline({"/amount": "hmac"}, amount=Column(from_="/amount", type="integer")))
    assert run({"/amount": "drop"}, {"amount": 5}, amount=Column(from_="/amount", type="integer")) == (None,)


@pytest.mark.parametrize("payload", [{"a": {"b": [1, {"c": "x"}]}}, {"a": None}, {"a": [ADDRESS]}, [], "x", None])
def test_masking_a_payload_leaves_the_payload_as_it_came(payload: Any) -> None:  # noqa: ANN401 - any JSON
    before = repr(payload)

    masked(payload, {("a", "b", "1", "c"): mask_of("drop", b"k"), ("a", "*"): mask_of("hmac", b"k")})

    assert repr(payload) == before


def test_a_result_is_masked_where_the_file_says() -> None:
    program = compile_pipeline(
        pipeline({"/who/mail": "domain", "/n": "hmac", "/o": "last4"}, x=Column()), mask_key=b"k"
    )

    found = program.masked({"who": {"mail": ADDRESS, "id": 1}, "n": 5, "o": {"deep": ADDRESS}})

    assert found == {"who": {"mail": "example.org", "id": 1}, "n": keyed_hash("5", b"k"), "o": None}


def test_the_person_of_an_event_is_known_by_a_keyed_hash() -> None:
    made = pipeline({}, x=Column())
    personal = Pipeline(etlpay=1, name="p", source="s", personal=Personal("/customer/id", "kyc"), table=made.table)
    program = compile_pipeline(personal, mask_key=b"k")

    assert program.subject_of({"customer": {"id": "C-1"}}) == keyed_hash("C-1", b"k")
    assert program.subject_of({"customer": {"id": 7}}) == keyed_hash("7", b"k")
    events: tuple[object, ...] = ({}, {"customer": {"id": ""}}, {"customer": 5}, [])
    for payload in events:
        assert program.subject_of(payload) is None
    assert compile_pipeline(made).subject_of({"customer": {"id": "C-1"}}) is None
