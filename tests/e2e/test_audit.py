"""`etlpay audit` on the running system: it balances over all channels, and names what is missing."""

import asyncio
import subprocess
import sys
from typing import Any

import asyncpg
import grpc.aio
import msgspec
import psutil
import pytest

from etlpay_cli.errors import UNVOUCHED
from etlpay_cli.layout import DATABASE, Layout
from etlpay_client import QueueClient
from etlpay_client import etlpay_pb2 as pb
from etlpay_client.etlpay_pb2_grpc import EtlServiceStub
from shared.contracts.roles import OWNER_ROLE
from support.servers import CHECKOUT
from support.stack import Stack, until

AUDIT_SECONDS_MAX = 100
ASYNC = {"prefer": "respond-async"}


# Another test of the same hour may have killed a process, and then nothing of its channel is vouched for.
BALANCES = {0, UNVOUCHED}


async def audited(stack: Stack, source: str, *flags: str, wait: int = 60) -> tuple[int, dict[str, dict[str, Any]], str]:
    """Return the exit code of the audit of one source, its findings by channel, and what it said."""
    command = (sys.executable, "-m", "etlpay_cli", "audit", "--json", "--since", "1h", "--source", source)
    done = await asyncio.to_thread(
        subprocess.run,
        (*command, "--wait", str(wait), *flags),
        env=stack.environment,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=AUDIT_SECONDS_MAX,
    )
    assert done.stdout, done.stderr
    findings = msgspec.json.decode(done.stdout)["findings"]
    sums: dict[str, dict[str, Any]] = {}
    for finding in findings:
        line = finding["line"] | {name: finding[name] for name in ("missing", "surplus", "without_record")}
        kept = sums.setdefault(line["channel"], {})
        for name, number in line.items():
            if isinstance(number, int):
                kept[name] = kept.get(name, 0) + number
    return done.returncode, {channel: _without_zeros(kept) for channel, kept in sums.items()}, done.stderr


def _without_zeros(numbers: dict[str, int]) -> dict[str, int]:
    return {name: number for name, number in numbers.items() if number}


def request(source: str, key: str, value: int = 1) -> dict[str, Any]:
    return {"source_name": source, "id": key, "payload": {"v": value}}


async def test_all_channels_balance_with_duplicates_conflicts_and_refusals(stack: Stack, source: str) -> None:
    async with stack.client() as http:
        for key, value in (("h1", 1), ("h2", 1), ("h1", 1), ("h1", 2)):
            await http.post("/api/ingest", json=request(source, key, value))
        for key, value in (("h3", 1), ("h3", 1), ("h3", 2), ("h2", 1)):
            answer = await http.post("/api/ingest", json=request(source, key, value), headers=ASYNC)
            assert answer.status_code == 202
    async with grpc.aio.insecure_channel(stack.grpc) as grpc_channel:
        requests = [pb.IngestRequest(source_name=source, payload_json=body, id=key) for key, body in (
            ("g1", '{"v":1}'), ("g1", '{"v":1}'), ("g1", '{"v":2}'), ("g2", "nonsense"),
        )]  # fmt: skip
        await EtlServiceStub(grpc_channel).IngestBatch(pb.IngestBatchRequest(requests=requests), timeout=20)
    stack.drop(source, "rows.ndjson", b'{"id":"f1","v":1}\n{"id":"f1","v":1}\n{"id":"f1","v":2}\nnonsense\n')
    client = QueueClient(stack.amqp)
    for key, value in (("q1", 1), ("q1", 1), ("q1", 2), ("h1", 9)):
        await client.publish("etl-queue", {"v": value}, source=source, id=key)
    await stack.events_of(source, count=6)

    code, channels, said = await audited(stack, source)

    assert code in BALANCES, said
    assert channels["http"] == {
        "received": 8, "stored": 2, "duplicate": 1, "conflict": 1, "queued": 4, "events": 3, "success": 3,
        "settled_duplicate": 2, "settled_conflict": 1,
    }  # fmt: skip
    assert channels["grpc"] == {
        "received": 4, "stored": 1, "duplicate": 1, "conflict": 1, "refused": 1, "events": 1, "success": 1,
    }  # fmt: skip
    assert channels["file"] == {
        "received": 4, "refused": 1, "queued": 3, "events": 1, "success": 1, "settled_duplicate": 1,
        "settled_conflict": 1,
    }  # fmt: skip
    assert channels["queue"] == {
        "received": 4, "queued": 4, "events": 1, "success": 1, "settled_duplicate": 1, "settled_conflict": 2,
    }  # fmt: skip


async def owner_of(stack: Stack) -> asyncpg.Connection:
    """Return a connection of the ledger's owner."""
    if stack.mode != "local":
        pytest.skip("the owner's password is in a volume that only PostgreSQL and the migration mount")
    host = stack.postgres.rpartition("@")[2].partition("/")[0]
    password = Layout(stack.root).read_secret("postgres/owner_password")
    return await asyncpg.connect(f"postgresql://{OWNER_ROLE}:{password}@{host}/{DATABASE}")


async def test_a_deleted_event_is_missed_by_its_source_and_hour(stack: Stack, source: str) -> None:
    owner = await owner_of(stack)
    async with stack.client() as http:
        for key in ("a", "b", "c"):
            await http.post("/api/ingest", json=request(source, key))
    assert (await audited(stack, source))[0] in BALANCES
    [row] = await owner.fetch(
        "SELECT id, received_at FROM raw_events WHERE idempotency_key = 'b' ORDER BY id DESC LIMIT 1"
    )
    await owner.execute("CREATE TEMP TABLE chosen (id bigint)")
    await owner.execute("INSERT INTO chosen VALUES ($1)", row["id"])
    await owner.execute("CREATE TEMP TABLE raw AS SELECT raw_events.* FROM raw_events JOIN chosen USING (id)")
    await owner.execute(
        "CREATE TEMP TABLE record AS SELECT records.* FROM processed_records AS records JOIN chosen USING (id)"
    )
    await owner.execute("DELETE FROM processed_records USING record WHERE processed_records.id = record.id")
    without_record = await audited(stack, source, wait=0)
    await owner.execute("DELETE FROM raw_events USING raw WHERE raw_events.id = raw.id")
    without_event = await audited(stack, source, wait=0)
    await owner.execute("INSERT INTO raw_events SELECT * FROM raw")
    await owner.execute("INSERT INTO processed_records SELECT * FROM record")
    healed = await audited(stack, source)
    await owner.close()

    hour = f"{row['received_at']:%Y-%m-%d %H:00} UTC"
    assert (without_record[0], without_record[1]["http"]["without_record"]) == (1, 1)
    assert (without_event[0], without_event[1]["http"]["missing"]) == (1, 1)
    assert f"{hour}, {source}, http" in without_event[2]
    assert healed[0] in BALANCES


async def test_a_killed_process_leaves_its_hour_unvouched_for_and_nothing_missing(stack: Stack, source: str) -> None:
    """What it had not reported is stored; whether all that it acknowledged is stored cannot be known."""
    if stack.mode != "local":
        pytest.skip("a container that is killed by hand stays down")
    async with grpc.aio.insecure_channel(stack.grpc) as grpc_channel:
        stub = EtlServiceStub(grpc_channel)
        for key in ("a", "b"):
            await stub.Ingest(pb.IngestRequest(source_name=source, payload_json="{}", id=key), timeout=20)
        service_of(stack, "grpc_ingest").kill()
        await until(lambda: ingests(stub, source, "c"), bool, seconds_max=60)
        await stub.Ingest(pb.IngestRequest(source_name=source, payload_json="{}", id="a"), timeout=20)

    code, channels, said = await audited(stack, source)

    assert code == UNVOUCHED, said
    assert "grpc: cannot be vouched for: grpc-ingest (" in said
    assert "ended without a receipt of what it had answered since" in said
    assert channels["grpc"]["events"] == 3
    assert channels["grpc"].get("missing", 0) == 0
    # Its last receipt may have gone just before it was killed.
    assert channels["grpc"].get("surplus", 0) + channels["grpc"]["stored"] == 3


def service_of(stack: Stack, module: str) -> psutil.Process:
    """Return the process of a service of this very stack."""
    [found] = [
        process
        for process in psutil.process_iter()
        if process.is_running()
        and module in _of(process, "cmdline")
        and str(_of(process, "cwd")).startswith(str(stack.root))
    ]
    return found


def _of(process: psutil.Process, what: str) -> Any:  # noqa: ANN401 - what psutil knows of a process
    try:
        return getattr(process, what)()
    except psutil.Error:
        return ""


async def ingests(stub: EtlServiceStub, source: str, key: str) -> bool:
    try:
        await stub.Ingest(pb.IngestRequest(source_name=source, payload_json="{}", id=key), timeout=5)
    except grpc.aio.AioRpcError:
        return False
    return True
