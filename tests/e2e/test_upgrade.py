"""What the release before left behind comes up: its ledger, queues, secrets and files, recorded from a run of it.

The ledger is a dump of version 2 of the schema, and the messages are bytes of that release. Its half-read file stands
in work/ without a note, four of its six rows stored and the first two of them once more in the ingest queue.
"""

import asyncio
import base64
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import aio_pika
import asyncpg
import msgspec
import pytest
import pytest_asyncio
from yarl import URL

from etlpay_cli import state
from etlpay_cli.layout import Layout
from etlpay_cli.provision import CACHE_CONFIG_PLACE, INGEST_VHOST, PRODUCERS_PLACE
from shared.messaging.topology import INGEST_QUEUE, PUBLIC_QUEUE, RECEIPTS_QUEUE, declare_ingest_queues, declare_public
from shared.wire import CONTENT_TYPE
from support.amqp import publish
from support.servers import CHECKOUT, run_etlpay, stack_environment
from support.stack import Stack, run_stack, until

LEDGER: Final = Path(__file__).with_name("before") / "ledger.sql"
RECORDED_AT: Final = datetime(2026, 11, 27, 20, 45, tzinfo=UTC)
ALL: Final = """
    SELECT raw_event_id, event_id, source, idempotency_key, channel, type, occurred_at, received_at, stored_at,
           content_type, origin, body, record_id, attempt, processed_at, status, payload, errors
    FROM events WHERE stored_at < $1 ORDER BY raw_event_id
"""
QUEUED: Final = (
    # Of the source before-queued: one with the id late-1, one without an id.
    (
        "ClMKEA30JfYjelqWq0Tz3eJvx2gSDWJlZm9yZS1xdWV1ZWQaBmxhdGUtMSABOJPastiBqZgDQhBhcHBsaWNhdGlvbi9qc29uSgt7ImxhdGUiOiAx"
        "fQ=="
    ),
    "CksKEAGiHr8+u3bUvWRlwzk6phESDWJlZm9yZS1xdWV1ZWQgATj9l7TYgamYA0IQYXBwbGljYXRpb24vanNvbkoLeyJsYXRlIjogMn0=",
    # The first two rows of the half-read file, which are stored.
    (
        "CoABChDL1amj25hTEa+/0QG39IjiEgtiZWZvcmUtaGFsZhonZmlsZTo2NTM5OGY2NTA0YWFkZGQxZmZlMGI2NTVhZGU4ZjE5YjoxIAM4oJjT3IGp"
        "mANCEGFwcGxpY2F0aW9uL2pzb25KCnsicm93IjogMH1SDWhhbGYubmRqc29uOjEKgAEKEO+GhQwFh1dBoBexYq7uQhESC2JlZm9yZS1oYWxmGidm"
        "aWxlOjY1Mzk4ZjY1MDRhYWRkZDFmZmUwYjY1NWFkZThmMTliOjIgAzihmNPcgamYA0IQYXBwbGljYXRpb24vanNvbkoKeyJyb3ciOiAxfVINaGFs"
        "Zi5uZGpzb246Mg=="
    ),
)
RECEIPT: Final = "CgthcGktZ2F0ZXdheRIQl5vKgAuERsG6VGD8Vpq0QBgBIhcKDWJlZm9yZS1xdWV1ZWQQARiUuR5AAg=="
QUEUED_BODIES: Final = [b'{"late": 1}', b'{"late": 2}']
TAKEN: Final = b'{"amount": 1.10}\n{"amount": 2.20}\n{"amount": 1.10}\n'
TAKEN_CSV: Final = b"name,amount\nA,1.10\nB,2.20\n"
HALF: Final = [b'{"row": %d}' % number for number in range(6)]
FEED: Final = b'{"reading": 1}\n{"reading": 2}\n'
WITH_MESSAGE_ID: Final = aio_pika.Message(b'{"amount": 5.50}', message_id="m-1", headers={"source": "before-queue"})
ARRAY: Final = aio_pika.Message(
    b'[{"amount": 6.60}, {"amount": 7.70}]', headers={"source": "before-queue", "ce-id": "array-1"}
)


class Before:
    """Lays what the release before left, into a folder whose stack is down afterwards."""

    def __init__(self, folder: Path) -> None:
        self._layout = Layout(folder)
        self._environment = stack_environment(folder)
        self.events: list[asyncpg.Record] = []

    async def lay(self) -> None:
        await asyncio.to_thread(run_etlpay, "up", "--servers", environment=self._environment)
        try:
            await self._restore_ledger()
            await self._fill_queues()
        finally:
            await asyncio.to_thread(run_etlpay, "down", environment=self._environment)
        self._lay_files()
        self._take_new_secrets_away()

    async def _restore_ledger(self) -> None:
        password = self._layout.read_secret("postgres/owner_password")
        connection = await asyncpg.connect(
            host="127.0.0.1", port=self._ports["postgres"], user="etlpay_owner", password=password, database="etlpay"
        )
        try:
            await connection.execute("CREATE ROLE etlpay_processor LOGIN; CREATE ROLE etlpay_reader LOGIN")
            await connection.execute(LEDGER.read_text(encoding="utf-8"))
            await connection.execute("SET search_path = public")
            self.events = await connection.fetch(ALL, datetime.now(UTC))
        finally:
            await connection.close()

    async def _fill_queues(self) -> None:
        async with await aio_pika.connect(self._amqp_url(INGEST_VHOST)) as connection:
            await declare_ingest_queues(connection)
            for queue, bodies in ((INGEST_QUEUE, QUEUED), (RECEIPTS_QUEUE, (RECEIPT,))):
                for body in bodies:
                    await _put(connection, queue, aio_pika.Message(base64.b64decode(body), content_type=CONTENT_TYPE))
        async with await aio_pika.connect(self._amqp_url("")) as public:
            await declare_public(public, PUBLIC_QUEUE)
            await _put(public, PUBLIC_QUEUE, aio_pika.Message(b'{"left": 1}', headers={"source": "before-left"}))

    def _lay_files(self) -> None:
        lines = b"".join(row + b"\n" for row in HALF)
        named = b'{"id": "row-1", "amount": 4}\n'
        for place, content in (
            ("done/before-file/taken.ndjson", TAKEN),
            ("work/before-half/half.ndjson", lines),
            ("inbox/before-inbox/waiting.ndjson", named),
        ):
            path = self._layout.files / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for folder in (self._layout.files, *(path for path in self._layout.files.rglob("*") if path.is_dir())):
            folder.chmod(0o755)

    def _take_new_secrets_away(self) -> None:
        """Leave the secrets that there were: passwords of PostgreSQL and of the broker, and its definitions."""
        for kind in (
            "*_token",
            "redis_password",
            "cache_key",
            Path(CACHE_CONFIG_PLACE).name,
            Path(PRODUCERS_PLACE).name,
        ):
            for path in self._layout.secrets.rglob(kind):
                path.unlink()

    @property
    def _ports(self) -> dict[str, int]:
        known = state.read_state(self._layout.state)
        assert known is not None
        return dict(known.ports)

    def _amqp_url(self, vhost: str) -> str:
        password = self._layout.read_secret("operator/amqp_password")
        return URL.build(
            scheme="amqp", user="operator", password=password, host="127.0.0.1", port=self._ports["amqp"],
            path=f"/{vhost}",
        ).human_repr()  # fmt: skip


async def _put(connection: aio_pika.abc.AbstractConnection, queue: str, message: aio_pika.Message) -> None:
    message.delivery_mode = aio_pika.DeliveryMode.PERSISTENT
    amqp_channel = await connection.channel(on_return_raises=True)
    await amqp_channel.default_exchange.publish(message, queue)
    await amqp_channel.close()


class Upgraded:
    """The stack of today on what was left."""

    def __init__(self, stack: Stack, events: list[asyncpg.Record]) -> None:
        self.stack = stack
        self.events_before = events

    async def bodies(self, source: str, count: int) -> list[bytes]:
        """Return the bodies of a source, sorted, once there are `count`."""
        query = "SELECT body FROM events WHERE source = $1"
        rows = await until(lambda: self.stack.fetch(query, source), lambda found: len(found) >= count)
        return sorted(row["body"] for row in rows)

    async def settled(self, source: str, count: int) -> list[tuple[str, int]]:
        """Return what became of the arrivals of a source that were stored before, once there are `count`."""
        query = """
            SELECT disposition, count(DISTINCT (event_id, received_at, channel)) FROM settlements
            WHERE source_id = (SELECT id FROM ingestion_sources WHERE name = $1) GROUP BY 1 ORDER BY 1
        """
        rows = await until(
            lambda: self.stack.fetch(query, source), lambda found: sum(row["count"] for row in found) >= count
        )
        return [(DISPOSITIONS[row["disposition"]], row["count"]) for row in rows]


DISPOSITIONS: Final = {2: "duplicate", 3: "conflict"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upgraded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Upgraded]:
    """The release before, and then this one on it."""
    folder = tmp_path_factory.mktemp("before")
    before = Before(folder)
    await before.lay()
    running = run_stack("local", folder, ETLPAY_RECEIPT_SECONDS="1")
    stack = await asyncio.to_thread(running.__enter__)
    try:
        yield Upgraded(stack, before.events)
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_everything_is_ready(upgraded: Upgraded) -> None:
    await asyncio.to_thread(upgraded.stack.run_etlpay, "status")


async def test_the_events_of_before_are_there_as_they_were(upgraded: Upgraded) -> None:
    found = await upgraded.stack.fetch(ALL, RECORDED_AT)

    assert len(found) == 20
    assert [dict(row) for row in found] == [dict(row) for row in upgraded.events_before]
    assert {row["channel"] for row in found} == {"http", "grpc", "file", "queue"}


async def test_what_waited_is_stored(upgraded: Upgraded) -> None:
    assert await upgraded.bodies("before-queued", 2) == QUEUED_BODIES
    assert await upgraded.bodies("before-left", 1) == [b'{"left": 1}']
    assert await upgraded.bodies("before-inbox", 1) == [b'{"id": "row-1", "amount": 4}']


async def test_a_file_that_was_half_read_ends_with_each_row_stored_once(upgraded: Upgraded) -> None:
    files = upgraded.stack.inbox.parent
    assert await upgraded.bodies("before-half", 6) == HALF

    # Of the message in the queue, and of the file itself.
    assert await upgraded.settled("before-half", 6) == [("duplicate", 6)]
    assert (files / "done/before-half/half.ndjson").exists()
    assert not (files / "work/before-half/half.ndjson").exists()
    assert await upgraded.bodies("before-half", 6) == HALF


async def test_an_id_of_before_answers_with_the_record_of_before(upgraded: Upgraded) -> None:
    first = next(row for row in upgraded.events_before if row["idempotency_key"] == "order-1")
    async with upgraded.stack.client() as client:
        answers = [
            await client.post(
                "/api/ingest", headers={"Idempotency-Key": "order-1"},
                content=b'{"source_name":"before-http","payload":{"amount": %b}}' % amount,
            )
            for amount in (b"1.10", b"8.88")
        ]  # fmt: skip

    assert [answer.status_code for answer in answers] == [200, 409]
    assert answers[0].headers["Idempotency-Replayed"] == "true"
    assert (answers[0].json()["id"], answers[0].json()["event_id"]) == (first["record_id"], str(first["event_id"]))


async def test_a_file_that_was_taken_before_stores_nothing_new(upgraded: Upgraded) -> None:
    stack = upgraded.stack
    stack.drop("before-file", "taken.ndjson", TAKEN)
    stack.drop("before-file", "taken.csv", TAKEN_CSV)

    assert await upgraded.settled("before-file", 5) == [("duplicate", 5)]
    assert len(await upgraded.bodies("before-file", 6)) == 6


async def test_a_message_that_is_delivered_again_stores_nothing_new(upgraded: Upgraded) -> None:
    await publish(upgraded.stack.amqp, [WITH_MESSAGE_ID, ARRAY])

    assert await upgraded.settled("before-queue", 3) == [("duplicate", 3)]
    assert len(await upgraded.bodies("before-queue", 4)) == 4


async def test_a_file_that_was_read_in_place_stores_only_what_is_new(upgraded: Upgraded) -> None:
    stack = upgraded.stack
    path = stack.root / "data" / "feed.ndjson"
    path.write_bytes(FEED + b'{"reading": 3}\n')
    watcher = stack.start("file_watcher", "--path", str(path), "--source", "before-in-place", "--interval", "1")

    try:
        settled = await upgraded.settled("before-in-place", 2)
        found = await upgraded.bodies("before-in-place", 3)
    finally:
        watcher.send_signal(signal.SIGTERM)
        await asyncio.to_thread(watcher.wait, 30)

    assert settled == [("duplicate", 2)]
    assert found == [b'{"reading": 1}', b'{"reading": 2}', b'{"reading": 3}']


async def test_the_audit_misses_nothing(upgraded: Upgraded) -> None:
    """What came in before its watcher was killed cannot be vouched for; nothing is missing."""
    hours = int((datetime.now(UTC) - RECORDED_AT) / timedelta(hours=1))

    of_before = await _audit(upgraded.stack, "--since", f"{hours + 1}h", "--until", f"{hours}h")
    of_today = await _audit(upgraded.stack, "--since", "1h")

    for code, findings in (of_before, of_today):
        assert code in {0, 6}
        assert [each for each in findings if each["missing"] or each["without_record"]] == []
    assert {"before-http", "before-queued"} <= {each["line"]["source"] for each in of_before[1]}


async def _audit(stack: Stack, *flags: str) -> tuple[int, list[dict[str, Any]]]:
    done = await asyncio.to_thread(
        subprocess.run,
        (sys.executable, "-m", "etlpay_cli", "audit", "--json", "--wait", "30", *flags),
        env=stack.environment,
        cwd=CHECKOUT,
        capture_output=True,
        check=False,
        timeout=90,
    )
    assert done.stdout, done.stderr
    findings: list[dict[str, Any]] = msgspec.json.decode(done.stdout)["findings"]
    return done.returncode, findings
