"""Whatever the events are: the proposal is read, has no error, and its program takes every one of them."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.pipelines.compiling import compile_pipeline
from shared.pipelines.document.reading import read_pipeline
from shared.pipelines.linting.pipeline import lint
from shared.pipelines.proposals.inferring import InferError, infer_pipeline
from shared.pipelines.trials.samples import SampleEvent, run_sample
from shared.pipelines.trials.testing import attributes_of

NAMES = st.sampled_from(
    [
        *("id", "type", "created", "amount", "currency", "country", "email", "tax_id", "order", "lines", "status"),
        *("Net (\u20ac)", "a.b", "/", "~", "*", "", "from", "@id", "#1", '"', "./x"),
    ]
)
TEXTS = st.sampled_from(
    [
        *(
            "",
            "x",
            "EUR",
            "eur",
            "DE",
            "2026-03-01",
            "2026-03-01T09:30:00Z",
            "31.12.2026",
            "10.99",
            "10,99",
            "1",
            "007",
        ),
        *("true", "a.b", "\u6f22", '"', "-1"),
    ]
)
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.sampled_from([0, 1099, 1_772_357_400]) | st.just(Decimal("1.10"))
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=10,
)
PAYLOADS = st.dictionaries(NAMES, VALUES, max_size=5)
COLUMNS = st.lists(NAMES, min_size=1, max_size=4)


def check_proposal(events: list[SampleEvent]) -> None:
    try:
        text = infer_pipeline(events, name="shop", source="shop")
    except InferError:
        # There is no member, or none that may become a column.
        return

    def read(_: str) -> bytes:
        return text.encode()

    pipeline, problems = read_pipeline("shop.toml", read)
    assert pipeline is not None, (problems, text)
    issues = lint(pipeline, read, "shop.toml")
    assert [issue for issue in issues if issue.level == "error"] == [], text
    program = compile_pipeline(pipeline)
    for event in events:
        assert run_sample(program, event, attributes_of(pipeline, event)).problems == (), text


@given(st.lists(PAYLOADS, min_size=1, max_size=4))
@settings(max_examples=60)
def test_every_json_event_is_taken_by_what_was_proposed_for_it(payloads: list[dict[str, object]]) -> None:
    check_proposal([SampleEvent("x.ndjson", payload, row=number) for number, payload in enumerate(payloads, 1)])


@given(COLUMNS.flatmap(lambda names: st.tuples(st.just(names), st.lists(st.tuples(*[TEXTS] * len(names)), min_size=1))))
@settings(max_examples=60)
def test_every_csv_row_is_taken_by_what_was_proposed_for_it(drawn: tuple[list[str], list[tuple[str, ...]]]) -> None:
    header, rows = drawn
    check_proposal(
        [SampleEvent("x.csv", header=tuple(header), fields=row, row=number) for number, row in enumerate(rows, 1)]
    )
