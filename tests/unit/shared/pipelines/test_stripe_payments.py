"""Stripe's payments: what becomes of variants of one event, and of amounts that are none."""

from decimal import Decimal
from typing import Any, Literal

import pytest

from shared.pipelines.compiling import PipelineProgram, compile_pipeline
from shared.pipelines.model import Column, CsvRules, EventRules, MoneyRules, Pipeline, Table
from shared.pipelines.program import Made
from support.pipeline_events import ABOUT, causes, decode, told

STATUSES = ("requires_payment_method", "processing", "canceled", "succeeded")
OBJECT = "/data/object"
COLUMNS = {
    "id": Column(from_=f"{OBJECT}/id"),
    "as_of": Column(from_="/created", type="timestamp", as_="unix"),
    "amount": Column(from_=f"{OBJECT}/amount", type="money", currency="currency", required=True, min=0),
    "received": Column(from_=f"{OBJECT}/amount_received", type="money", currency="currency", min=0),
    "currency": Column(from_=f"{OBJECT}/currency", type="currency"),
    "status": Column(from_=f"{OBJECT}/status", required=True, values=STATUSES),
    "customer": Column(from_=(f"{OBJECT}/customer/id", f"{OBJECT}/customer")),
    "livemode": Column(from_="/livemode", type="boolean", required=True),
}
PAYMENTS = Table(
    name="payments",
    types=("payment_intent.*",),
    mode="latest",
    key=("id",),
    newest="as_of",
    check=("received <= amount",),
    columns=COLUMNS,
)
PIPELINE = Pipeline(
    etlpay=1,
    name="stripe",
    source="stripe",
    event=EventRules(id="/id", type="/type"),
    money=MoneyRules("minor", "stripe"),
    table=(PAYMENTS,),
)
AMOUNT, RECEIVED = f"{OBJECT}/amount", f"{OBJECT}/amount_received"
EVENT = b"""{"id": "evt_1", "type": "payment_intent.succeeded", "created": 1700000000, "livemode": false,
"data": {"object": {"id": "pi_1", "amount": 109900, "amount_received": 0, "currency": "brl", "status": "succeeded",
"customer": {"id": "cus_1"}, "metadata": {}}}}"""


@pytest.fixture(scope="module")
def program() -> PipelineProgram:
    return compile_pipeline(PIPELINE)


def run(program: PipelineProgram, **changes: str) -> Made:
    """Return what the event makes whose members of the object are replaced by JSON texts."""
    event: Any = decode(EVENT)
    event["data"]["object"] |= {name: decode(text) for name, text in changes.items()}
    return program.run(event, ABOUT)


def column(made: Made, name: str) -> object:
    (row,) = made.rows
    return dict(zip(COLUMNS, row.values, strict=True))[name]


@pytest.mark.parametrize(
    ("amount", "currency", "stored"),
    [
        ("109900", "brl", (109_900, 2)),
        ("500", "jpy", (500, 0)),
        ("1250", "kwd", (1250, 3)),
        ("500", "ugx", (5, 0)),
        ("5", "mga", (500, 2)),
        ("9007199254740993", "brl", (9_007_199_254_740_993, 2)),
        ("-0", "brl", (0, 2)),
        ("999999999999999999", "brl", (999_999_999_999_999_999, 2)),
        ("1000", "hrk", (1000, 2)),
    ],
)
def test_minor_units_are_stored_at_the_scale_of_iso(
    program: PipelineProgram, amount: str, currency: str, stored: tuple[int, int]
) -> None:
    made = run(program, amount=amount, currency=f'"{currency}"')

    assert (made.problems, column(made, "amount")) == ((), stored)
    assert column(made, "currency") == currency.upper()


@pytest.mark.parametrize(
    ("amount", "currency", "code"),
    [
        ("550", "ugx", "precision"),
        ("10.5", "brl", "type"),
        ("10.0", "brl", "type"),
        ("1e3", "brl", "type"),
        ("1e400", "brl", "type"),
        ('"100"', "brl", "type"),
        ("true", "brl", "type"),
        ("[1]", "brl", "type"),
        ('{"value": 1}', "brl", "type"),
        ("-1", "brl", "min"),
        ("1" + "0" * 30, "brl", "max"),
        ("1" + "0" * 18, "brl", "max"),
        ("null", "brl", "missing"),
    ],
)
def test_an_amount_that_is_none_is_a_problem_of_the_amount(
    program: PipelineProgram, amount: str, currency: str, code: str
) -> None:
    made = run(program, amount=amount, currency=f'"{currency}"')

    assert (made.rows, told(made)) == ((), {AMOUNT: code})
    assert causes(made) == [f"stripe.payments.amount:{code}"]


@pytest.mark.parametrize("currency", ['"xyz"', '"Brl"', '""', '"XTS"', '"BRL "'])
def test_an_unknown_currency_is_told_of_every_amount_in_it(program: PipelineProgram, currency: str) -> None:
    made = run(program, amount='"100"', currency=currency)

    assert told(made) == {AMOUNT: "type", RECEIVED: "currency", f"{OBJECT}/currency": "currency"}


def test_an_amount_without_a_currency_is_told_of_the_currency_once(program: PipelineProgram) -> None:
    made = run(program, currency="null")

    assert causes(made) == ["stripe.payments.currency:missing"]


def test_all_problems_are_told_at_once_in_the_order_of_the_columns(program: PipelineProgram) -> None:
    made = run(program, id="null", status='"blocked"', amount="1.5", customer="5")

    assert causes(made) == [
        *("stripe.payments.id:missing", "stripe.payments.amount:type", "stripe.payments.status:value"),
        "stripe.payments.customer:type",
    ]


def test_a_check_is_told_of_the_element_with_its_text(program: PipelineProgram) -> None:
    made = run(program, amount_received="109901")

    assert told(made) == {"": "check"}
    assert causes(made) == ["stripe.payments:check received <= amount"]


def test_a_check_is_told_beside_problems_of_other_columns(program: PipelineProgram) -> None:
    made = run(program, amount_received="109901", id="null")

    assert causes(made) == ["stripe.payments.id:missing", "stripe.payments:check received <= amount"]


def test_a_missing_amount_fails_its_check(program: PipelineProgram) -> None:
    assert causes(run(program, amount_received="null")) == ["stripe.payments:check received <= amount"]


@pytest.mark.parametrize(
    ("customer", "stored"),
    [('"cus_2"', "cus_2"), ('{"id": "cus_3"}', "cus_3"), ("null", None), ('{"id": {"x": 1}}', None)],
)
def test_an_id_is_taken_of_the_expanded_object_or_of_the_text(
    program: PipelineProgram, customer: str, stored: str | None
) -> None:
    made = run(program, customer=customer)

    if customer.startswith('{"id": {'):
        assert told(made) == {f"{OBJECT}/customer": "type"}
    else:
        assert column(made, "customer") == stored


def test_no_problem_holds_the_value_found(program: PipelineProgram) -> None:
    made = run(program, id="[1]", status='"top-secret"', amount='"top-secret"', currency='"top-secret"')

    assert len(made.problems) == 5
    assert "top-secret" not in repr(made)


def test_a_type_that_no_table_takes_is_noted(program: PipelineProgram) -> None:
    made = program.run({"type": "customer.created"}, ABOUT)

    assert (made.matched, made.rows, [note.code for note in made.notes]) == (False, (), ["unknown_type"])


def test_the_type_that_was_sent_with_the_event_comes_first(program: PipelineProgram) -> None:
    assert program.run(decode(EVENT), ABOUT._replace(type="charge.failed")).matched is False


@pytest.mark.parametrize("payload", [None, True, 5, "x", [], [[]], {}, {"type": ["payment_intent.x"]}, {"data": [{}]}])
def test_a_payload_of_any_form_makes_no_exception(program: PipelineProgram, payload: object) -> None:
    assert program.run(payload, ABOUT._replace(type="payment_intent.x")).rows == ()


def major(text: str, currency: str, decimal: Literal[".", ","] = ".") -> Made:
    """Return what a CSV row with an amount in major units makes."""
    columns = {"amount": Column(type="money", currency="currency"), "currency": Column(type="currency")}
    pipeline = Pipeline(etlpay=1, name="p", source="s", csv=CsvRules(decimal=decimal), table=(Table("t", columns),))
    return compile_pipeline(pipeline).run_row(("amount", "currency"), (text, currency), ABOUT)


@pytest.mark.parametrize(
    ("text", "currency", "code"),
    [
        *[(text, "EUR", "type") for text in ("1,099.00", "1.099,00", "٣", "1e3", "+1", " 1", "1.", ".5", "1_0", "0x1")],
        *[(text, "EUR", "type") for text in ("NaN", "Infinity", "--1", "1.1.1", "²", "-")],
        ("1.10", "JPY", "precision"),
        ("10.999", "EUR", "precision"),
        ("1" + "0" * 30, "EUR", "max"),
        ("-" + "1" + "0" * 16, "EUR", "max"),
        ("1.00", "xyz", "currency"),
    ],
)
def test_a_text_that_is_no_amount_is_refused(text: str, currency: str, code: str) -> None:
    assert told(major(text, currency))["/amount"] == code


@pytest.mark.parametrize(
    ("text", "currency", "stored"),
    [("109.90", "EUR", (10_990, 2)), ("-0.5", "EUR", (-50, 2)), ("500.00", "JPY", (500, 0)), ("-0", "eur", (0, 2))],
)
def test_a_text_that_is_an_amount_is_stored_exactly(text: str, currency: str, stored: tuple[int, int]) -> None:
    assert major(text, currency).rows[0].values[0] == stored


@pytest.mark.parametrize(
    ("text", "code"),
    [("1099,00", None), ("-0,5", None), ("1.099,00", "type"), ("1099.00", "type"), ("1,099,00", "type")],
)
def test_a_decimal_comma_takes_no_separator_of_thousands(text: str, code: str | None) -> None:
    assert told(major(text, "EUR", ",")).get("/amount") == code


def test_a_json_number_in_major_units_keeps_its_digits() -> None:
    columns = {"amount": Column(type="money", currency="currency"), "currency": Column(type="currency")}
    program = compile_pipeline(Pipeline(etlpay=1, name="p", source="s", table=(Table("t", columns),)))

    made = program.run(decode('{"amount": 0.10, "currency": "EUR"}'), ABOUT)

    assert made.rows[0].values == ((10, 2), "EUR")
    assert told(program.run(decode('{"amount": 1e400, "currency": "EUR"}'), ABOUT)) == {"/amount": "max"}
    assert told(program.run({"amount": Decimal("NaN"), "currency": "EUR"}, ABOUT)) == {"/amount": "type"}
