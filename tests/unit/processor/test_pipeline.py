"""What a pipeline makes of the events of its sources, as the record and the rows that are stored."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from processor.ledger.rows import Processed
from processor.programs.active import NO_PIPELINES, ActiveSet
from processor.stages.transform import transform
from shared.contracts.csv_row import CSV_ROW
from shared.contracts.errors import Problem
from shared.contracts.event import Channel, Envelope
from shared.contracts.failure import failed_type
from shared.contracts.result import RecordStatus
from shared.pipelines.values.masking import keyed_hash
from support.active_pipelines import EXAMPLES, KEYS, active, example, set_of
from support.events import event

HEAD = 'etlpay = 1\nname = "p"\nsource = "shop-*"\n'
ORDERS = (
    HEAD
    + '[[table]]\nname = "orders"\n[table.columns]\nid = { from = "/id", required = true }\n'
    + 'gross = { from = "/gross", type = "decimal" }\n'
)
MASKED = HEAD + '[mask]\n"/mail" = "hmac"\n' + ORDERS.removeprefix(HEAD) + 'mail = "/mail"\n'
PERSONAL = ORDERS.replace("[[table]]", '[personal]\nsubject = "/who"\nkey = "k-1"\n[[table]]')
ABOUT = (
    HEAD
    + '[[table]]\nname = "about"\n[table.columns]\nsource = "@source"\nown = "@id"\nkind = "@type"\n'
    + 'channel = "@channel"\nrow = { from = "@row", type = "integer" }\nfile = "@file"\n'
    + 'file_at = { from = "@file_at", type = "timestamp" }\n'
    + 'occurred = { from = "@occurred_at", type = "timestamp" }\n'
    + 'received = { from = "@received_at", type = "timestamp" }\n'
)


def run(text: str, body: bytes, content_type: str = "application/json", **more: Any) -> Processed:  # noqa: ANN401 - attributes
    """Transform an event of a source of a pipeline."""
    sent = replace(event(body, source="shop-1", content_type=content_type), **more)
    return transform(sent, set_of(active(text)))


def values(processed: Processed) -> list[tuple[object, ...]]:
    """Return the values of the rows."""
    return [row.values for row in processed.rows]


def test_an_event_becomes_rows_and_its_result_is_its_body() -> None:
    processed = run(ORDERS, b'{"id": "o-1", "gross": 1.10}')

    assert processed.status is RecordStatus.SUCCESS
    assert processed.result is None
    assert [str(value) for value in processed.rows[0].values] == ["o-1", "1.10"]
    assert processed.pipeline is not None
    assert (processed.pipeline.id, processed.cause, processed.subject, processed.errors) == (1, "", None, ())


def test_a_source_without_a_pipeline_is_as_it_was() -> None:
    sent = event(b'{"id": 7}', source="bank")

    assert (
        transform(sent, set_of(active(ORDERS)))
        == transform(sent, NO_PIPELINES)
        == Processed(sent, RecordStatus.SUCCESS)
    )


def test_an_event_that_breaks_the_contract_has_no_row_and_names_every_problem() -> None:
    processed = run(ORDERS, b'{"gross": "x"}')

    assert processed.status is RecordStatus.FAILED
    assert processed.errors == (
        Problem("/id", "is required, and has no value", "missing"),
        Problem("/gross", "must be a number", "type"),
    )
    assert processed.cause == "p.orders.id:missing"
    assert (processed.rows, processed.result) == ((), None)
    assert b'"code":"missing"' in msgspec.json.encode(processed.errors)


def test_what_is_odd_stands_beside_a_success() -> None:
    processed = run(ORDERS.replace("[[table]]", '[[table]]\ntypes = ["order"]'), b'{"id": "1"}', type="other")

    assert processed.status is RecordStatus.SUCCESS
    assert [(each.pointer, each.code) for each in processed.errors] == [("", "unknown_type")]
    assert (processed.rows, processed.cause) == ((), "")


@pytest.mark.parametrize(
    ("body", "content_type", "cause", "detail"),
    [
        (b"{", "application/json", "unreadable", "must be valid JSON"),
        (b"[]", "application/json", "not_object", "must be a JSON object"),
        (b'{"a": "\\u0000"}', "application/json", "unreadable", "holds U+0000, which PostgreSQL text cannot"),
        (b'{"a": 1e999}', "application/json", "unreadable", "holds a number out of range"),
        (b'{"a": 1e-16384}', "application/json", "unreadable", "holds a number out of range"),
        (b'{"a": "\xff"}', "application/json", "unreadable", "must be UTF-8"),
        (b"a,b\n1", CSV_ROW, "unreadable", "has another number of fields than its header"),
        (b"x", failed_type("is packed"), "unreadable", "is packed"),
    ],
)
@pytest.mark.parametrize("pipelines", [NO_PIPELINES, set_of(active(ORDERS))], ids=["without", "with"])
def test_what_cannot_be_read_has_one_of_two_causes(
    pipelines: ActiveSet, body: bytes, content_type: str, cause: str, detail: str
) -> None:
    processed = transform(event(body, source="shop-1", content_type=content_type), pipelines)

    owner, code = ("p", cause) if pipelines.pipelines else ("-", "")
    assert processed.status is RecordStatus.FAILED
    assert processed.cause == f"{owner}:{cause}"
    assert processed.errors == (Problem("", detail, code),)
    assert processed.rows == ()


@pytest.mark.parametrize("fields", ['o-1,"1,5"', "o-1,15"])
def test_a_csv_row_becomes_rows_and_no_result(fields: str) -> None:
    processed = run(ORDERS, b"id, gross \n" + fields.encode(), CSV_ROW)

    assert processed.status is (RecordStatus.FAILED if '"' in fields else RecordStatus.SUCCESS)
    assert processed.result is None
    assert [values[0] for values in values(processed)] == ([] if '"' in fields else ["o-1"])


def test_columns_of_one_name_are_read_by_their_position() -> None:
    text = HEAD + '[[table]]\nname = "t"\n[table.columns]\nfirst = "#1"\nsecond = "#2"\n'
    body = b"amount,amount\n1,2"

    assert values(run(text, body, CSV_ROW)) == [("1", "2")]
    assert transform(event(body, content_type=CSV_ROW), NO_PIPELINES).status is RecordStatus.FAILED


def test_rows_of_one_header_are_compiled_once() -> None:
    pipeline = active(ORDERS)
    assert pipeline.program is not None
    compiled: list[object] = []
    plain = pipeline.program._of_header

    def of_header(header: tuple[str, ...]) -> object:
        compiled.append(header)
        return plain(header)

    pipeline.program._of_header = of_header  # type: ignore[method-assign, assignment]  # notes what should happen once

    for number in range(5):
        transform(event(f"id,gross\n{number},1".encode(), source="shop-1", content_type=CSV_ROW), set_of(pipeline))

    assert compiled == [("id", "gross")]


def test_a_masked_place_is_masked_in_the_result_and_in_the_row() -> None:
    body = b'{"id": "1", "gross": 1.10, "mail": "a@b.example", "n": 18446744073709551617}'

    processed = run(MASKED, body)

    hashed = keyed_hash("a@b.example", KEYS["k-1"])
    assert processed.result is not None
    assert msgspec.json.decode(processed.result)["mail"] == hashed
    assert b'"gross":1.10' in processed.result
    assert b'"n":18446744073709551617' in processed.result
    assert processed.rows[0].values[2] == hashed
    assert processed.event.body == body


def test_a_csv_row_of_a_pipeline_with_masks_keeps_the_masked_object() -> None:
    """Otherwise the object would be read from the body, which is not masked."""
    processed = run(MASKED, b"id,gross,mail\n1,2,a@b.example", CSV_ROW)

    assert processed.result is not None
    assert msgspec.json.decode(processed.result) == {
        "id": "1",
        "gross": "2",
        "mail": keyed_hash("a@b.example", KEYS["k-1"]),
    }


def test_an_event_that_breaks_the_contract_keeps_no_masked_result() -> None:
    assert run(MASKED, b'{"mail": "a@b.example"}').result is None


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b'{"id": "1", "who": "c-9"}', "application/json", RecordStatus.SUCCESS),
        (b'{"who": "c-9"}', "application/json", RecordStatus.FAILED),
        (b"id,gross,who\n1,2,c-9", CSV_ROW, RecordStatus.SUCCESS),
    ],
)
def test_the_person_of_an_event_is_kept_as_a_hash_whatever_becomes_of_it(
    body: bytes, content_type: str, status: RecordStatus
) -> None:
    processed = run(PERSONAL, body, content_type)
    held = transform(processed.event, set_of(active(PERSONAL), held={"p": "asked for"}))

    assert processed.status is status
    assert processed.subject == held.subject == keyed_hash("c-9", KEYS["k-1"])


def test_what_is_known_of_an_event_of_a_file() -> None:
    moment = datetime(2026, 3, 1, 9, tzinfo=UTC)

    file_at = moment - timedelta(seconds=1)

    processed = run(
        ABOUT,
        b"{}",
        channel=Channel.FILE,
        origin="a:b.csv:17",
        idempotency_key="k",
        type="t",
        received_at=moment,
        file_at=file_at,
    )

    assert values(processed) == [("shop-1", "k", "t", "file", 17, "a:b.csv", file_at, None, moment)]


def test_what_is_known_of_an_event_of_another_channel() -> None:
    moment = datetime(2026, 3, 1, 9, tzinfo=UTC)

    processed = run(ABOUT, b"{}", channel=Channel.QUEUE, origin="queue:x:9", received_at=moment, occurred_at=moment)

    assert values(processed)[0][3:] == ("queue", None, None, None, moment, moment)


@pytest.mark.parametrize("body", [b'{"id": "1"}', b"{", b"[]"])
@pytest.mark.parametrize("how", ["asked for", "cannot be run"])
def test_an_event_of_a_held_pipeline_is_kept_as_it_came(body: bytes, how: str) -> None:
    pipeline = active(ORDERS)
    held = {"p": how}
    if how == "cannot be run":
        pipeline, held = replace(pipeline, program=None, tables=()), {}

    processed = transform(event(body, source="shop-1"), set_of(pipeline, held=held), acknowledged=True)

    assert processed == Processed(
        processed.event, RecordStatus.HELD, acknowledged=True, pipeline=pipeline, cause="p:held"
    )


def test_a_held_pipeline_holds_no_other_source() -> None:
    pipelines = set_of(active(ORDERS), held={"p": "asked for"})

    assert transform(event(source="bank"), pipelines).status is RecordStatus.SUCCESS


@pytest.mark.parametrize(
    ("name", "sample", "rows"),
    [
        ("stripe", "stripe/payment_intent.succeeded.json", 2),
        ("orders", "orders/order.created.json", 3),
    ],
)
def test_the_examples_make_rows_of_their_samples(name: str, sample: str, rows: int) -> None:
    pipeline = example(name)
    body = (EXAMPLES / "samples" / sample).read_bytes()

    processed = transform(event(body, source=pipeline.sources[0]), set_of(pipeline))

    assert processed.errors == ()
    assert len(processed.rows) == rows


NUMBERS = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.tuples(st.integers(-9, 9), st.integers(-99_999, 99_999)).map("{0[0]}e{0[1]}".format),
    st.tuples(st.integers(0, 9), st.integers(0, 400), st.integers(-400, 400)).map(
        lambda parts: f"0.{'0' * parts[1]}{parts[0]}e{parts[2]}"
    ),
)
JSON_VALUES = st.recursive(
    NUMBERS | st.text(max_size=5).map(lambda text: msgspec.json.encode(text).decode("utf-8", "replace")),
    lambda inner: st.lists(inner, max_size=3).map(lambda each: f"[{','.join(each)}]"),
    max_leaves=5,
)


def outcome(sent: Envelope, pipelines: ActiveSet) -> tuple[RecordStatus, str]:
    processed = transform(sent, pipelines)
    return processed.status, processed.errors[0].detail if processed.errors else ""


OF_ORDERS = set_of(active(ORDERS))
EVERYTHING = set_of(active(HEAD.replace("shop-*", "*") + '[drift]\nunknown_type = "ignore"\n'))


@given(value=JSON_VALUES)
def test_a_pipeline_reads_what_is_read_without_one(value: str) -> None:
    sent = event(f'{{"a": {value}}}'.encode())

    assert outcome(sent, EVERYTHING) == outcome(sent, NO_PIPELINES)


@given(body=st.binary(max_size=200), content_type=st.sampled_from(["application/json", "", "text/plain"]))
def test_no_bytes_at_all_stop_a_pipeline(body: bytes, content_type: str) -> None:
    sent = event(body, content_type=content_type)

    assert outcome(sent, EVERYTHING) == outcome(sent, NO_PIPELINES)


@given(body=st.binary(max_size=200))
def test_no_bytes_of_a_row_stop_a_pipeline(body: bytes) -> None:
    processed = transform(event(body, source="shop-1", content_type=CSV_ROW), OF_ORDERS)

    assert (processed.status is RecordStatus.FAILED) == bool(processed.cause)
