"""Totals over the API: views that `apply` made, of rows that the processor wrote, read by the role that only reads."""

import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import msgspec
import pytest

from api_gateway.http.problems import HttpProblem
from api_gateway.queries.ledger import Ledger, open_reader
from api_gateway.queries.parameters import read_cursor
from api_gateway.queries.pipelines import Pipelines
from api_gateway.queries.totals import TotalCursor, TotalRowCursor, Totals
from processor.ledger.database import Connections
from processor.ledger.store import Store
from processor.stages.transform import transform
from shared.auth.scopes import EVERY_SOURCE, Scope
from shared.contracts.event import now
from shared.contracts.result import RecordStatus
from shared.contracts.totals import TotalState
from shared.settings import PostgresPoolSettings
from support.active_pipelines import active, set_of
from support.events import event
from support.one_shot import OneShot
from support.servers import ROLE_PASSWORD, Servers

BOOKS = """\
etlpay = 1
name   = "ledgers"
source = ["ledgers-*", "branch"]

[[table]]
name = "entries"

[table.columns]
batch    = { from = "/batch", type = "integer" }
debit    = { from = "/debit", type = "money", currency = "currency" }
credit   = { from = "/credit", type = "money", currency = "currency" }
currency = { from = "/currency", type = "currency" }
note     = "/note"

[[total]]
name = "balances"
of   = "entries"
by   = ["batch", "note", "currency"]
sums = { debit = "debit", credit = "credit", balance = "credit - debit" }
must = ["balance = 0", "rows > 1"]

[[total]]
name = "everything"
of   = "entries"
by   = ["currency"]
sums = { credit = "credit" }
"""
PIPELINE = active(BOOKS)
CURRENCIES = {"EUR": 2, "JPY": 0, "KWD": 3, "CLF": 4}
LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


@pytest.fixture
async def totals(
    ledger: Servers,
    one_shot: OneShot,
    connections: Connections,  # noqa: ARG001 - an empty ledger
) -> AsyncIterator[Totals]:
    """The gateway's view of a ledger to which the pipeline was applied."""
    one_shot.write("ledgers", BOOKS)
    await one_shot.ok("apply", "--yes")
    url = ledger.postgres_url("etlpay_reader")
    settings = PostgresPoolSettings(postgres_url=url, postgres_password=ROLE_PASSWORD, postgres_seconds_max=5)
    reader = Ledger(await open_reader(settings), page_bytes_max=1_000, seconds_max=10)
    yield Totals(reader, Pipelines(reader))
    await reader.close()


async def write(connections: Connections, entries: Iterable[dict[str, Any]]) -> None:
    """Store events as the processor does."""
    events = [
        event(msgspec.json.encode(entry), source="ledgers-1", key=f"{number}/{now()}")
        for number, entry in enumerate(entries)
    ]
    processed = [transform(each, set_of(PIPELINE)) for each in events]
    assert {each.status for each in processed} == {RecordStatus.SUCCESS}, processed[0].errors
    await Store(connections, copy_events_min=100).write(processed, processed_at=now())


def entry(batch: int | None, credit: str = "0", debit: str = "0", note: str | None = None) -> dict[str, Any]:
    return {"batch": batch, "credit": credit, "debit": debit, "currency": "EUR", "note": note}


async def rows(totals: Totals, name: str, *, limit: int = 500, since: datetime | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after: TotalRowCursor | None = None
    while True:
        page = await totals.rows(name, EVERY_SOURCE, since=since, after=after, limit=limit)
        found += map(msgspec.json.decode, page.items)
        after = read_cursor(page.next, TotalRowCursor)
        if after is None:
            return found


async def states(totals: Totals, *sources: str, since: datetime | None = None) -> dict[str, TotalState]:
    scope = Scope(sources) if sources else EVERY_SOURCE
    page = await totals.page(scope, since=since, after=None, limit=100)
    assert page.next is None
    return {each.name: each for each in page.items}


async def test_rows_that_do_not_hold_come_first_with_amounts_as_text(totals: Totals, connections: Connections) -> None:
    await write(connections, [entry(1, "1.10", "1.10"), entry(1), entry(2, "9007199254740993.25"), entry(2), entry(3)])

    found = await rows(totals, "balances")

    assert [(row["batch"], row["rows"], row["balance"], row["holds"]) for row in found] == [
        ("2", "2", "9007199254740993.25", False),
        ("3", "1", "0.00", False),
        ("1", "2", "0.00", True),
    ]
    assert list(found[0]) == ["batch", "note", "currency", "rows", "debit", "credit", "balance", "holds", "_loaded_at"]


async def test_pages_hold_every_group_once_those_without_a_value_too(totals: Totals, connections: Connections) -> None:
    batches = [2, 10, None, -3, 7]
    notes = ["é", "Z", "a", None, ""]
    await write(connections, [entry(batch, note=note) for batch in batches for note in notes] * 2)
    await write(connections, [entry(batch, "0.01", note="a") for batch in batches])

    pages = [[(row["holds"], row["batch"], row["note"]) for row in await rows(totals, "balances", limit=limit)]
             for limit in (1, 4, 500)]  # fmt: skip

    assert pages[0] == pages[1] == pages[2]
    assert len(set(pages[0])) == len(pages[0]) == 25
    assert [holds for holds, _, _ in pages[0]] == [False] * 5 + [True] * 20
    assert [batch for _, batch, _ in pages[0][:5]] == ["-3", "2", "7", "10", None]
    assert [note for _, batch, note in pages[0][5:] if batch == "2"] == ["", "Z", "é", None]


@pytest.mark.parametrize("seed", range(3))
async def test_the_sums_of_a_table_are_those_of_decimal_by_currency(
    totals: Totals, connections: Connections, seed: int
) -> None:
    drawn = random.Random(seed)  # noqa: S311 - amounts for a test
    expected: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    counts: dict[tuple[str, str], int] = defaultdict(int)
    entries = []
    for _ in range(400):
        currency = drawn.choice(sorted(CURRENCIES))
        made: dict[str, Any] = {"batch": 1, "currency": currency}
        for amount in ("credit", "debit"):
            if drawn.random() < 0.9:
                value = Decimal(drawn.randint(-(10**17), 10**17)).scaleb(-CURRENCIES[currency])
                made[amount] = str(value)
                expected[currency, amount] += value
                counts[currency, amount] += 1
        entries.append(made)
    await write(connections, entries)

    found = await rows(totals, "entries_totals")

    sums: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    numbers: dict[tuple[str, str], int] = defaultdict(int)
    for row in found:
        sums[row["currency"], row["amount"]] += Decimal(row["sum"])
        numbers[row["currency"], row["amount"]] += int(row["rows"])
        assert set(row) == {"hour", "file", "currency", "amount", "rows", "sum"}
    assert (sums, numbers) == (expected, counts)
    credited = {row["currency"]: Decimal(row["credit"]) for row in await rows(totals, "everything")}
    assert credited == {currency: sum_ for (currency, amount), sum_ in expected.items() if amount == "credit"}


async def test_the_list_counts_the_rows_that_hold(totals: Totals, connections: Connections) -> None:
    await write(connections, [entry(1), entry(1), entry(2, "1.00"), entry(2), entry(3, "2.00"), entry(3)])

    found = await states(totals)

    assert {name: (each.holding, each.failing) for name, each in found.items()} == {
        "balances": (1, 2), "everything": (1, 0), "entries_totals": (None, None),
    }  # fmt: skip
    balances = found["balances"]
    assert (balances.of, balances.view, balances.pipeline, balances.version) == (
        "entries", "data.balances", "ledgers", 1,
    )  # fmt: skip
    assert balances.must == ("balance = 0", "rows > 1")


async def test_since_leaves_out_what_has_not_changed(
    totals: Totals, connections: Connections, owner: asyncpg.Connection
) -> None:
    await write(connections, [entry(1, "1.00"), entry(2, "1.00")])
    await owner.execute("UPDATE rows.entries_1 SET _loaded_at = $1 WHERE batch = 1", LONG_AGO)
    await owner.execute(
        "UPDATE raw_events SET received_at = $1 WHERE id IN (SELECT _event FROM rows.entries_1 WHERE batch = 1)",
        LONG_AGO + timedelta(minutes=59),
    )
    recently = now() - timedelta(minutes=1)

    assert [row["batch"] for row in await rows(totals, "balances", since=recently)] == ["2"]
    assert (await states(totals, since=recently))["balances"].failing == 1
    assert len(await rows(totals, "entries_totals")) == 4
    # The hour of the moment counts whole.
    assert len(await rows(totals, "entries_totals", since=LONG_AGO + timedelta(minutes=30))) == 4
    assert len(await rows(totals, "entries_totals", since=LONG_AGO + timedelta(hours=1))) == 2


@pytest.mark.parametrize(
    ("key", "readable"),
    [(["*"], True), (["ledgers-*", "branch"], True), (["ledgers-*"], False), (["branch"], False), (["other"], False)],
)
async def test_a_total_is_for_keys_of_all_sources_of_its_pipeline(
    totals: Totals, key: list[str], *, readable: bool
) -> None:
    assert set(await states(totals, *key)) == ({"balances", "everything", "entries_totals"} if readable else set())
    for name in ("balances", "entries_totals"):
        question = totals.rows(name, Scope(key), since=None, after=None, limit=1)
        if readable:
            assert (await question).items == []
            continue
        with pytest.raises(HttpProblem) as raised:
            await question
        assert raised.value.type.status == 404


async def test_pages_of_the_list_go_on_by_name(totals: Totals) -> None:
    first = await totals.page(EVERY_SOURCE, since=None, after=None, limit=2)
    last = await totals.page(EVERY_SOURCE, since=None, after=read_cursor(first.next, TotalCursor), limit=2)

    assert [each.name for each in (*first.items, *last.items)] == ["balances", "entries_totals", "everything"]
    assert last.next is None


async def test_what_is_no_total_and_a_cursor_of_another_are_refused(totals: Totals, connections: Connections) -> None:
    await write(connections, [entry(1)])
    for name in ("entries", "none"):
        with pytest.raises(HttpProblem) as missing:
            await totals.rows(name, EVERY_SOURCE, since=None, after=None, limit=1)
        assert missing.value.type.status == 404
    for key in (("true",), ("true", "many", "x", "EUR"), ("perhaps", "1", "x", "EUR"), ("true", "1", "x", "\x00")):
        with pytest.raises(HttpProblem) as refused:
            await totals.rows("balances", EVERY_SOURCE, since=None, after=TotalRowCursor(key), limit=1)
        assert refused.value.type.status == 422


async def test_a_total_of_a_pipeline_that_is_off_is_not_found(totals: Totals, one_shot: OneShot) -> None:
    await one_shot.ok("off", "ledgers", "--reason", "a test")

    assert await states(totals) == {}
