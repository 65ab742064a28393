"""A start applies the pipeline files of the checkout; the commands plan, apply and decide beside a running stack."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal

import asyncpg
import msgspec
import pytest

from support.active_pipelines import EXAMPLES
from support.servers import CHECKOUT, docker_is_here
from support.stack import Stack, run_stack, until
from support.typed_pipelines import SHOP
from support.waiting import until_true

TILL = """\
etlpay = 1
name   = "till"
source = "till-*"

[drift]
unknown_member = "note"

[[table]]
name = "tickets"

[table.columns]
amount   = { from = "/amount", type = "money", currency = "currency" }
currency = { from = "/currency", type = "currency" }

[[total]]
name = "ticket_sums"
of   = "tickets"
by   = ["currency"]
sums = { amount = "amount" }
must = ["amount >= 0"]
"""


@pytest.fixture(scope="module", params=["local", "docker"] if docker_is_here() else ["local"])
def typed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose folder of pipelines holds a good file and a bad one, and examples below them."""
    folder = tmp_path_factory.mktemp("typed")
    examples = folder / "pipelines" / "examples"
    examples.mkdir(parents=True)
    (examples / "never.toml").write_text("no pipeline")
    (folder / "pipelines" / "shop.toml").write_text(SHOP)
    (folder / "pipelines" / "bad.toml").write_text("etlpay = 1\nname = 'bad'\n")
    with run_stack(request.param, folder) as running:
        yield running


def ended(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `etlpay pipeline` against the stack."""
    return command_ended(stack, "pipeline", *arguments)


def command_ended(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command against the stack."""
    command = (sys.executable, "-m", "etlpay_cli", *arguments)
    return subprocess.run(
        command, env=stack.environment, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=120
    )


async def claimed(stack: Stack, source: str, name: str) -> None:
    """Wait until the file-watcher has claimed a file."""

    async def is_gone() -> bool:
        return not (stack.inbox / source / name).exists()

    assert await until(is_gone, bool), f"{name} is still in the inbox"


async def answer_to(stack: Stack, source: str) -> int:
    """Return the status of the answer to an event without any member."""
    async with stack.client() as http:
        return (await http.post("/api/ingest", json={"source_name": source, "payload": {}})).status_code


async def test_a_start_applies_good_files_tells_bad_ones_and_takes_events_all_the_same(
    typed: Stack, source: str
) -> None:
    listed = ended(typed, "list", "--json")

    assert listed.returncode == 0, listed.stderr
    [shop] = msgspec.json.decode(listed.stdout)["pipelines"]
    assert (shop["name"], shop["active"], shop["reason"]) == ("shop", 1, "applied")
    async with typed.client() as http:
        answer = await http.post("/api/ingest", json={"source_name": source, "payload": {"value": 1}})
    assert answer.status_code == 201
    assert await typed.fetch("SELECT * FROM data.orders") == []


def test_a_local_start_says_what_became_of_the_files(typed: Stack) -> None:
    if typed.mode != "local":
        pytest.skip("containers print it")
    applied = msgspec.json.decode((typed.root / ".etlpay" / "state.json").read_bytes())["pipelines"]

    assert applied["succeeded"] is False
    assert "bad  REFUSED" in applied["text"]
    assert "applied: shop" in applied["text"]


async def test_a_person_plans_applies_exactly_that_and_rolls_back(typed: Stack) -> None:
    file = typed.root / "pipelines" / "shop.toml"
    file.write_text(SHOP.replace("status   = {", 'who      = "/who"\nstatus   = {'))

    planned = ended(typed, "plan", str(file), "--json")
    token = msgspec.json.decode(planned.stdout)["plan"]
    file.write_text(file.read_text() + "# one more line\n")
    stale = ended(typed, "apply", str(file), "--plan", token)
    applied = ended(typed, "apply", str(file), "--yes", "--label", "abc")

    assert planned.returncode == 0, planned.stderr
    assert stale.returncode == 1
    assert "is stale" in stale.stdout
    assert "- shop: new version" in stale.stdout
    assert applied.returncode == 0, applied.stderr
    assert ended(typed, "activate", "shop@1", "--reason", "too soon").returncode == 0
    kept = ended(typed, "apply", str(file), "--yes")
    assert "stays at version 1" in kept.stdout
    assert ended(typed, "plan").returncode == 1, "the bad file is still there"
    assert await typed.fetch("SELECT who FROM data.orders") == []


async def test_the_reader_cannot_change_typed_tables(typed: Stack) -> None:
    connection = await asyncpg.connect(typed.postgres)
    with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError)):
        await connection.execute("DELETE FROM rows.orders_1")
    await connection.close()


async def test_what_no_pipeline_reads_and_totals_that_do_not_hold_are_told(typed: Stack) -> None:
    file = typed.root / "pipelines" / "till.toml"
    file.write_text(TILL)
    applied = ended(typed, "apply", str(file), "--yes")
    assert applied.returncode == 0, applied.stderr
    sent = {"source_name": "till-1", "payload": {"amount": "10.99", "currency": "EUR", "tip": "secret"}}

    async def is_counted() -> bool:
        async with typed.client() as http:
            answer = await http.post("/api/ingest", json=sent)
        assert answer.status_code == 201
        return bool(msgspec.json.decode(ended(typed, "drift", "till", "--json").stdout)["items"])

    assert await until_true(is_counted, 60)
    holding = command_ended(typed, "totals")
    async with typed.client() as http:
        refund = {"source_name": "till-1", "payload": {"amount": "-9007199254740993.25", "currency": "EUR"}}
        assert (await http.post("/api/ingest", json=refund)).status_code == 201
        [row] = (await http.get("/api/totals/ticket_sums")).json()["items"]
        [item] = (await http.get("/api/drift", params={"pipeline": "till", "since": "2026-01-01"})).json()["items"]
        assert (await http.get("/api/totals/tickets")).status_code == 404
    failing = command_ended(typed, "totals", "ticket_sums", "--since", "1h", "--json")

    assert (item["kind"], item["place"], item["version"]) == ("unknown_member", "/tip", 1)
    assert row["holds"] is False
    assert Decimal(row["amount"]) == Decimal("10.99") * (int(row["rows"]) - 1) - Decimal("9007199254740993.25")
    assert (holding.returncode, failing.returncode) == (0, 1), holding.stderr + failing.stderr
    assert "ticket_sums" in holding.stdout
    assert msgspec.json.decode(failing.stdout)["items"] == [row]
    shown = ended(typed, "drift", "till").stdout
    assert "/tip" in shown
    assert "secret" not in shown
    assert ended(typed, "drift", "none").returncode == 2


async def test_of_two_editions_of_a_file_in_the_inbox_the_later_one_is_shown(typed: Stack) -> None:
    """The three examples that are loaded out of files, with their samples."""
    files = typed.root / "pipelines" / "files"
    files.mkdir()
    for name in ("adyen_settlement", "exchange_rates", "global_econ"):
        shutil.copy(EXAMPLES / f"{name}.toml", files)
    shutil.copytree(EXAMPLES / "lists", files / "lists")
    applied = ended(typed, "apply", str(files), "--yes")
    assert applied.returncode == 0, applied.stdout + applied.stderr
    # An event that breaks the contract tells that the processor runs the last of them.
    assert await until(lambda: answer_to(typed, "global-econ"), lambda status: status == 422) == 422

    for source, example, *names in (
        ("reference-rates", "exchange_rates", "rates.csv", "rates_corrected.csv"),
        ("adyen-settlement-nl", "adyen_settlement", "batch_41.csv", "batch_41_again.csv"),
        ("global-econ", "global_econ", "2022-2023.csv"),
    ):
        for name in names:
            typed.drop(source, name, (EXAMPLES / "samples" / example / name).read_bytes())
            await claimed(typed, source, name)
    events = await until(lambda: typed.fetch("SELECT status, pipeline, file_at FROM events WHERE channel = 'file'"),
                         lambda rows: len(rows) >= 17)  # fmt: skip

    assert {event["status"] for event in events} == {"SUCCESS"}
    assert len({event["pipeline"] for event in events if event["pipeline"]}) == 3
    assert len({event["file_at"] for event in events}) == 5
    rates = await typed.fetch("SELECT currency, rate::text FROM data.rates WHERE day = '2026-03-02' ORDER BY 1")
    assert dict(map(tuple, rates)) == {"GBP": "0.8604", "JPY": "170.9", "USD": "1.1389"}
    lines = await typed.fetch("SELECT line, file, net_debit::text FROM data.settlement_lines ORDER BY line")
    assert [tuple(line) for line in lines] == [
        (2, "batch_41_again.csv", None),
        (3, "batch_41_again.csv", "18.40"),
        (4, "batch_41_again.csv", "0.12"),
        (5, "batch_41_again.csv", "90.24"),
    ]
    assert (await typed.fetch("SELECT count(*) FROM data.indicators"))[0][0] == 5
