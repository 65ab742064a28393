"""What must be true after every case. Nothing here may be loosened to let a case pass."""

import asyncio
import contextlib
import enum
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from faults.harness.journal import CANARY, Answer, Journal, Sent
from faults.harness.world import SERVICES, Place, World
from support.waiting import until_true

DRAIN_SECONDS_MAX: Final = 60.0
RSS_BYTES_MAX: Final = 150 * 1024**2
# Of the pools, of the ledger's watch, and of a connection that is just being replaced.
_SESSIONS_MAX: Final = 10
_OPEN_FILES_MORE: Final = 40

# The line that ends a traceback which was printed and not logged, inside groups too; and what such a line may say
# where an error was injected. The last is what the gRPC library says when a loop ended with an error.
_END: Final = re.compile(rb"[ |]*([A-Za-z_][\w.]*(?:Error|Exception|Interrupt)\b.*)")
_UNEXPECTED: Final = b"ended by an unexpected error"
_INJECTED: Final = {
    *(
        f"shared.failpoints.InjectedError: {place}".encode()
        for place in ("processor.before_commit", "processor.received")
    ),
    b"RuntimeError: Event loop is closed",
}

# Of an event that was HELD its next attempt counts.
_STORED: Final = """
    SELECT source.name AS source, coalesce(raw.idempotency_key, '') AS key, raw.id, raw.body,
           (SELECT count(*) FROM processed_records AS record WHERE record.raw_event_id = raw.id
              AND record.status <> 3) AS records,
           (SELECT min(record.status) FROM processed_records AS record WHERE record.raw_event_id = raw.id
              AND record.status <> 3) AS status
    FROM raw_events AS raw JOIN ingestion_sources AS source ON source.id = raw.source_id
    WHERE starts_with(source.name, $1)
"""
_CONFLICTS: Final = """
    SELECT conflict.raw_event_id, conflict.body FROM conflicts AS conflict
    JOIN raw_events AS raw ON raw.id = conflict.raw_event_id
    JOIN ingestion_sources AS source ON source.id = raw.source_id
    WHERE starts_with(source.name, $1)
"""


class Sign(enum.Enum):
    """How a check shows that the product is broken."""

    LOST = "lost"
    DOUBLED = "doubled"
    WITHOUT_RECORD = "a raw event with 0 records"
    REPORTED = "a loss, and the audit reports it"
    UNREPORTED = "a loss, and the audit says that it balances"
    MISSING_ROW = "a typed row is missing"
    WRONG_ROW = "a typed row is another one than the bodies make"


@dataclass
class Verdict:
    """The result of the checks of one case."""

    acknowledged: int = 0
    stored: int = 0
    lost: int = 0
    doubled: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    longest_seconds: dict[str, float] = field(default_factory=dict)
    """How long the longest call of each channel took."""

    def fault(self, problem: str) -> None:
        """Note one more thing that must not be."""
        self.problems[problem] += 1

    def expect_recovery(self, seconds: float, *, seconds_max: float) -> None:
        """Take a recovery for a fault that took longer than it may: all of it arrived, and too late."""
        if seconds > seconds_max:
            self.fault(f"ready, answered and drained {seconds:.0f} s after the fault, instead of {seconds_max:.0f} s")

    def shows(self, sign: Sign) -> bool:
        """Whether the checks found this sign, among others."""
        match sign:
            case Sign.LOST:
                return self.lost > 0
            case Sign.DOUBLED:
                return self.doubled > 0
            case _:
                return self.problems[sign.value] > 0


class Ledger:
    """The rows of one case."""

    def __init__(self, rows: list[asyncpg.Record], conflicts: list[asyncpg.Record]) -> None:
        self.rows = rows
        self.by_key: dict[tuple[str, str], list[asyncpg.Record]] = defaultdict(list)
        self.by_body: dict[tuple[str, bytes], list[asyncpg.Record]] = defaultdict(list)
        self.conflicts = {(row["raw_event_id"], bytes(row["body"])) for row in conflicts}
        for row in rows:
            self.by_key[row["source"], row["key"]].append(row)
            self.by_body[row["source"], bytes(row["body"])].append(row)

    def find(self, sent: Sent) -> list[asyncpg.Record]:
        """Return the rows of one event: by its id, else by its content, which no other event has."""
        if sent.key:
            return self.by_key.get((sent.source, sent.key), [])
        return self.by_body.get((sent.source, sent.first.body), [])


async def read_ledger(world: Place, source: str) -> Ledger:
    """Return everything that is stored of a case."""
    async with world.ledger() as reader, reader.transaction(isolation="repeatable_read", readonly=True):
        return Ledger(await reader.fetch(_STORED, f"{source}."), await reader.fetch(_CONFLICTS, f"{source}."))


async def wait_drained(world: Place, journal: Journal, seconds_max: float = DRAIN_SECONDS_MAX) -> float:
    """Return how many seconds it took until every acknowledged event was stored and every service was ready."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    with contextlib.suppress(TimeoutError, ExceptionGroup):
        async with asyncio.timeout(seconds_max):
            await world.wait_ready(seconds_max)
            await until_true(lambda: _all_stored(world, journal), None)
    return loop.time() - begun


async def _all_stored(world: Place, journal: Journal) -> bool:
    try:
        ledger = await read_ledger(world, journal.source)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    return all(ledger.find(sent) for sent in journal.acknowledged()) and not any(_missing_conflicts(journal, ledger))


def _missing_conflicts(journal: Journal, ledger: Ledger) -> Iterator[Sent]:
    """Yield every event of which a content that was acknowledged is neither stored nor kept as a conflict."""
    for sent in journal.events:
        rows = ledger.find(sent)
        kept = {bytes(row["body"]) for row in rows} | {
            body for row in rows for number, body in ledger.conflicts if number == row["id"]
        } if len(sent.versions) > 1 else {bytes(row["body"]) for row in rows}  # fmt: skip
        if rows and any(
            version.answer and version.answer.kept and version.body not in kept for version in sent.versions
        ):
            yield sent


def compare(journal: Journal, ledger: Ledger) -> Verdict:
    """Compare the answers of the producers with what is stored."""
    verdict = Verdict(stored=len(ledger.rows), longest_seconds=journal.longest_seconds)
    claimed: set[int] = set()
    for sent in journal.events:
        rows = ledger.find(sent)
        claimed |= {row["id"] for row in rows}
        _compare_event(sent, rows, verdict)
    for sent in _missing_conflicts(journal, ledger):
        verdict.fault(f"a content that was {_answer_of(sent)} is neither stored nor kept as a conflict")
    for row in ledger.rows:
        if row["id"] not in claimed:
            verdict.fault("stored, and sent by nobody")
        if row["records"] != 1:
            verdict.fault(f"a raw event with {row['records']} records")
    for answer, count in journal.calls.items():
        if answer.startswith("unexpected"):
            verdict.problems[answer] += count
    return verdict


def _compare_event(sent: Sent, rows: list[asyncpg.Record], verdict: Verdict) -> None:
    verdict.doubled += max(0, len(rows) - 1)
    for problem in _wrong_answers(sent):
        verdict.fault(problem)
    if not sent.valid:
        if rows:
            verdict.fault("refused, and stored")
        return
    if sent.acknowledged:
        verdict.acknowledged += 1
        verdict.lost += not rows
    for row in rows:
        body = bytes(row["body"])
        if body not in {version.body for version in sent.versions}:
            verdict.fault("stored with another content than sent")
        if sent.first.answer is Answer.STORED and len(sent.versions) > 1 and body != sent.first.body:
            verdict.fault("stored first, and then overwritten")
        if row["status"] is not None and (row["status"] == 2) is not sent.becomes_failed:
            verdict.fault("its record has the wrong status")


def _wrong_answers(sent: Sent) -> Iterator[str]:
    """Yield what is wrong with the answers alone."""
    answers = {answer for version in sent.versions for answer in version.answers}
    if not sent.valid and any(answer.kept for answer in answers):
        yield "invalid, and acknowledged"
    # Each of its contents could have been an event: the second one under an id is a conflict, and no less valid.
    if sent.valid and Answer.REFUSED in answers:
        yield "valid, and refused"
    # Other contents are not sent before the first one is answered, so that it can never be the second.
    if sent.valid and Answer.CONFLICT in sent.first.answers:
        yield "a conflict where nothing else was sent before"


def _answer_of(sent: Sent) -> str:
    return "/".join(version.answer.value if version.answer else "unknown" for version in sent.versions)


class Baseline:
    """The state of the world without a fault."""

    def __init__(self, world: World) -> None:
        """Look at it now."""
        self._world = world
        self.amqp = {key: proxy.connections for key, proxy in world.proxies.items() if key[1] == "amqp"}
        self.open_files = {name: world.children[name].open_files for name in SERVICES}

    async def compare(self, verdict: Verdict, *, seconds_max: float = 30.0) -> None:
        """Note what is not as it was, after some time in which it may become so."""
        problems: list[str] = []

        async def has_none() -> bool:
            problems[:] = await self._problems()
            return not problems

        await until_true(has_none, seconds_max)
        for problem in problems:
            verdict.fault(problem)

    async def _problems(self) -> list[str]:
        world = self._world
        problems = [
            f"{service} has {world.proxies[service, target].connections} connections with RabbitMQ instead of {count}"
            for (service, target), count in self.amqp.items()
            if world.proxies[service, target].connections != count
        ]
        for name in SERVICES:
            child = world.children[name]
            if not await child.program.ready():
                problems.append(f"{name} is not ready")
            if child.rss_bytes > RSS_BYTES_MAX:
                problems.append(f"{name} has {child.rss_bytes >> 20} MB")
            if child.open_files > self.open_files[name] + _OPEN_FILES_MORE:
                problems.append(f"{name} has {child.open_files} open files instead of {self.open_files[name]}")
        return problems + await self._sessions()

    async def _sessions(self) -> list[str]:
        try:
            async with self._world.owner() as owner:
                rows = await owner.fetch(
                    "SELECT application_name AS name, count(*) AS sessions,"
                    " count(*) FILTER (WHERE state LIKE 'idle in transaction%') AS open FROM pg_stat_activity"
                    " WHERE application_name LIKE 'etlpay%' OR application_name LIKE 'api%' GROUP BY 1"
                )
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            return [f"PostgreSQL cannot be asked: {type(error).__name__}"]
        return [
            f"{row['name']} has {row['sessions']} sessions, {row['open']} of them in an idle transaction"
            for row in rows
            if row["sessions"] > _SESSIONS_MAX or row["open"]
        ]


class Logs:
    """What is written into the logs from now on."""

    def __init__(self, world: World) -> None:
        """Begin at their present ends."""
        self._world = world
        self._ends = {path: path.stat().st_size for path in world.layout.logs.glob("*.log")}

    def check(self, verdict: Verdict, *, injected: bool = False) -> None:
        """Note secrets, payloads and tracebacks; where an error was injected, only those of another error."""
        secrets = {secret.encode() for secret in self._world.secrets()}
        for path in self._world.layout.logs.glob("*.log"):
            with path.open("rb") as file:
                file.seek(self._ends.get(path, 0))
                text = file.read()
            if any(secret in text for secret in secrets):
                verdict.fault(f"a secret in {path.name}")
            if CANARY.encode() in text:
                verdict.fault(f"a payload in {path.name}")
            searched = _without_injected_error(text) if injected else text
            if path.stem in SERVICES and b"Traceback" in searched:
                verdict.fault(f"a traceback in {path.name}")
            if path.stem in SERVICES and _UNEXPECTED in searched:
                verdict.fault(f"an unexpected end in {path.name}")


def _without_injected_error(text: bytes) -> bytes:
    """Return a log without the lines of an injected error."""
    lines = [line for line in text.splitlines() if not (line.startswith(b"{") and b"InjectedError" in line)]
    ends = {end.group(1) for line in lines if (end := _END.match(line))}
    plain = [line for line in lines if line.startswith(b"{")]
    return b"\n".join(lines if ends - _INJECTED else plain)
