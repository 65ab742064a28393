"""What a batch writes to typed tables: which rows, in which order, by which statements."""

from datetime import date

from processor.ledger.rows import WriteItem
from processor.ledger.typed_rows import TypedStatement, table_rows
from processor.pipelines.active import ActiveSet
from shared.contracts.event import Envelope
from shared.pipelines.latest import Candidate, reduce_latest
from support.typed import BANK, SHOP, account, active_pipeline, payment, payment_gone, transformed

PIPELINES = ActiveSet([active_pipeline(SHOP), active_pipeline(BANK, number=2)])


def items(*events: Envelope) -> list[WriteItem]:
    return [WriteItem(number, 1, transformed(event, PIPELINES)) for number, event in enumerate(events, 1)]


def test_tables_come_by_their_names_and_rows_by_their_keys() -> None:
    batch = table_rows(items(payment("b", 1, parts=["y", "x"]), account("z", 1), payment("a", 1), account("y", 1)))

    assert [each.table.name for each in batch] == ["accounts_1", "parts_1", "payment_states_1", "payments_1"]
    accounts, parts, states, payments = batch
    assert [row.values[0] for row in accounts.rows] == ["y", "z"]
    assert [(row.sequence, row.part) for row in parts.rows] == [(1, 0), (1, 1)]
    assert [row.sequence for row in states.rows] == [1, 3]
    assert [row.values[0] for row in payments.rows] == ["a", "b"]


def test_of_a_latest_table_one_row_a_key_is_written() -> None:
    events = [payment("a", 1), payment("a", 3, status="paid"), payment("a", 3), payment("b", 1), payment("a", 2)]

    *_, payments = table_rows(items(*events))

    assert [(row.values[0], row.sequence) for row in payments.rows] == [("a", 2), ("b", 4)]


def test_a_tombstone_is_a_row() -> None:
    *_, payments = table_rows(items(payment("a", 1), payment_gone("a", 2)))

    assert [(row.values[:3], row.gone) for row in payments.rows] == [(("a", 2, None), True)]


def test_events_without_a_pipeline_write_nothing() -> None:
    assert table_rows(items(payment("a", 1, source="other"))) == []


def test_a_row_without_newest_is_older_than_every_other() -> None:
    [accounts] = table_rows(items(account("a", 1)))
    precedence = accounts.table.precedence
    assert precedence is not None
    known, unknown = Candidate(1, 0, ("a", date(2026, 1, 1), None)), Candidate(2, 0, ("a", None, None))
    later = Candidate(3, 0, ("a", None, None))

    assert reduce_latest(precedence, [known, unknown]) == reduce_latest(precedence, [unknown, known]) == [known]
    assert reduce_latest(precedence, [unknown, later]) == reduce_latest(precedence, [later, unknown]) == [later]


def test_amounts_of_one_value_are_one_key() -> None:
    """As PostgreSQL takes them: an upsert refuses one key twice in a statement."""
    text = BANK.replace('key    = ["iban"]', 'key    = ["sum"]').replace(
        'iban    = "/iban"', 'iban = "/iban"\nsum = { type = "money", currency = "code" }\ncode = { type = "currency" }'
    )
    pipeline = active_pipeline(text)
    assert pipeline.tables[0].precedence is not None
    key_of = pipeline.tables[0].precedence.key_of
    assert key_of(("a", (1000, 2), "EUR", None, None)) == key_of(("a", (10, 0), "JPY", None, None))


def test_the_statement_names_each_column_and_nothing_else() -> None:
    pipeline = PIPELINES.pipelines[0]

    for table in pipeline.tables:
        statement = TypedStatement(table)
        assert statement.columns == [column.name for column in (*table.columns, *table.added)]
        assert ("ON CONFLICT" in statement.text) == (table.precedence is not None)
        assert "*" not in statement.text
