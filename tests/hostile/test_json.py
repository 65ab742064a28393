"""JSON that is not, or that is too much: the same payloads over every channel."""

import gzip
from functools import partial

import aio_pika
import grpc.aio
import msgspec
import pytest
import pytest_asyncio
import zstandard

from etlpay_client.etlpay_pb2 import IngestRequest, IngestResponse
from support.amqp import publish
from support.hostile import CANARY, DOCUMENTS, Document, Fate
from support.stack import Stack, until

PROBLEM = "application/problem+json"
BOM = b"\xef\xbb\xbf"
DIALECTS = ("json", "json.gz", "json.zst", "ndjson")
FATES = {
    "SUCCESS": Fate.STORED,
    "FAILED": Fate.KEPT,
    "REFUSED": Fate.REFUSED,
    "INVALID_ARGUMENT": Fate.REFUSED,
}
of_each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)


def request_of(source: str, payload: bytes) -> bytes:
    return b'{"source_name": "%b", "payload": %b}' % (source.encode(), payload)


async def stored(stack: Stack, source: str) -> list[tuple[str, bytes]]:
    rows = await stack.fetch("SELECT status, body FROM events WHERE source = $1 ORDER BY raw_event_id", source)
    return [(row["status"], row["body"]) for row in rows]


def expected(fate: Fate, body: bytes) -> list[tuple[str, bytes]]:
    return {Fate.STORED: [("SUCCESS", body)], Fate.KEPT: [("FAILED", body)], Fate.REFUSED: []}[fate]


@of_each_document
async def test_a_single_event_over_http(stack: Stack, source: str, document: Document) -> None:
    async with stack.client() as client:
        answer = await client.post("/api/ingest", content=request_of(source, document.body))

    kinds = {"": Fate.STORED, "failed": Fate.KEPT, "malformed": Fate.REFUSED, "invalid": Fate.REFUSED}
    fate = kinds[answer.json().get("type", "").removeprefix("/docs/problems#")]
    assert fate in document.fate.possible
    assert answer.headers["Content-Type"] == ("application/json" if fate is Fate.STORED else PROBLEM)
    assert fate is Fate.STORED or CANARY not in answer.text
    # Blanks around the payload are the request's.
    assert await stored(stack, source) == expected(fate, document.body.strip())


@of_each_document
async def test_a_whole_request_over_http(stack: Stack, document: Document) -> None:
    async with stack.client() as client:
        answer = await client.post("/api/ingest", content=document.body)

    assert answer.status_code in (400, 422)
    assert answer.headers["Content-Type"] == PROBLEM
    assert CANARY not in answer.text


async def test_lines_of_a_batch_over_http(stack: Stack, source: str) -> None:
    """Every line has its own outcome, and disturbs no other."""
    lines = [document for document in DOCUMENTS if b"\n" not in document.body]
    content = b"\n".join(request_of(source, document.body) for document in lines)

    async with stack.client() as client:
        answer = await client.post(
            "/api/ingest/batch", content=content, headers={"Content-Type": "application/x-ndjson"}
        )

    fates = [FATES[result["status"]] for result in answer.json()["results"]]
    wrong = [f"{each.name}: {fate}" for each, fate in zip(lines, fates, strict=True) if fate not in each.fate.possible]
    assert wrong == []
    assert answer.json()["complete"] is True
    assert CANARY not in answer.text
    rows = [row for each, fate in zip(lines, fates, strict=True) for row in expected(fate, each.body.strip())]
    assert await stored(stack, source) == rows


@of_each_document
async def test_an_element_of_an_array_over_http(stack: Stack, source: str, document: Document) -> None:
    """What came before a place where the array cannot be read is stored and reported; nothing after it is guessed."""
    good = request_of(source, b'{"good": 1}')
    content = b"[" + good + b"," + request_of(source, document.body) + b"," + good + b"]"

    async with stack.client() as client:
        answer = await client.post("/api/ingest/batch", content=content)

    report = answer.json()
    first, fate, *rest = [FATES[result["status"]] for result in report["results"]]
    assert answer.status_code == 200
    assert first is Fate.STORED
    assert fate in document.fate.possible
    assert rest == ([Fate.STORED] if report["complete"] else [])
    assert report["complete"] or fate is Fate.REFUSED
    assert CANARY not in answer.text
    healthy = ("SUCCESS", b'{"good": 1}')
    assert await stored(stack, source) == [
        healthy,
        *expected(fate, document.body.strip()),
        *(healthy for _ in rest),
    ]


@of_each_document
async def test_an_event_over_grpc(stack: Stack, source: str, document: Document) -> None:
    # The field by hand: a client's library refuses to write what is no text.
    head = IngestRequest(source_name=source).SerializeToString()
    request = head + b"\x12" + _varint(len(document.body)) + document.body

    async with grpc.aio.insecure_channel(stack.grpc) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/etlpay.EtlService/Ingest")
        answered = ""
        try:
            answer = IngestResponse.FromString(await call(request)).status
        except grpc.aio.AioRpcError as error:
            answer = error.code().name
            answered = f"{error.details()}{error.trailing_metadata()}"

    fate = FATES[answer]
    assert CANARY not in answered
    assert fate in document.fate.possible
    assert await stored(stack, source) == expected(fate, document.body)


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*groups, number))


class Dropped:
    """Every document as a whole file of each dialect, and once more in the middle of good lines and rows."""

    def __init__(self, stack: Stack, prefix: str) -> None:
        self.stack = stack
        self.prefix = prefix

    def source(self, place: int | str) -> str:
        return f"{self.prefix}-{place}"

    def drop(self) -> None:
        packed = {"gz": gzip.compress, "zst": zstandard.ZstdCompressor().compress}
        for place, document in enumerate(DOCUMENTS):
            for dialect in DIALECTS:
                pack = packed.get(dialect.rpartition(".")[2], bytes)
                name = f"{dialect.replace('.', '-')}.{dialect}"
                self.stack.drop(self.source(f"{place}-{dialect.replace('.', '-')}"), name, pack(document.body))
        rows = [b'{"n": "before"}', *(each.body for each in DOCUMENTS), b'{"n": "after"}']
        self.stack.drop(self.source("lines"), "lines.ndjson", b"\n".join(rows))

    async def ended(self) -> bool:
        folders = [self.stack.inbox.parent / name for name in ("inbox", "work")]
        waiting = [path for folder in folders for path in folder.glob(f"{self.prefix}-*/*") if path.is_file()]
        return not waiting


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dropped(local_stack: Stack) -> Dropped:
    """All files at once, when all have ended."""
    files = Dropped(local_stack, f"hostile-json-{CANARY[-8:]}")
    files.drop()
    assert await until(files.ended, bool, seconds_max=60)
    return files


@pytest.mark.parametrize("place", range(len(DOCUMENTS)), ids=[document.name for document in DOCUMENTS])
async def test_a_whole_file(dropped: Dropped, place: int) -> None:
    """A file that holds no event ends in failed/ and stores nothing, however it is packed."""
    document = DOCUMENTS[place]
    body = document.body.removeprefix(BOM)
    for dialect in DIALECTS:
        source = dropped.source(f"{place}-{dialect.replace('.', '-')}")
        [ended] = {path.parent.parent.name for path in dropped.stack.inbox.parent.glob(f"*/{source}/*")}

        awaited = bool(body.strip()) and ended == "done"
        found = await until(partial(stored, dropped.stack, source), bool, seconds_max=30 if awaited else 0)

        possible = [fate for fate in document.file.possible if (fate is Fate.REFUSED) == (ended == "failed")]
        if body.strip():
            assert found in [expected(fate, body) for fate in possible], dialect
        else:
            # Nothing to take and nothing to lose: whether that is a fault is for the dialect to say.
            assert found == []


async def test_lines_of_a_file(dropped: Dropped) -> None:
    """A bad line costs itself only, and its number stands in the rejects without its content."""
    good = [(b'{"n": "before"}', Fate.STORED), (b'{"n": "after"}', Fate.STORED)]
    lines = [good[0], *((each.body, each.fate) for each in DOCUMENTS), good[1]]
    [report] = (dropped.stack.inbox.parent / "done" / dropped.source("lines")).glob("*.rejects.ndjson")
    rejected = {msgspec.json.decode(line)["line"] for line in report.read_bytes().splitlines()}
    fates = [Fate.REFUSED if number in rejected else fate for number, (_, fate) in enumerate(lines, 1)]
    taken = [body for (body, _), fate in zip(lines, fates, strict=True) if fate is not Fate.REFUSED]

    found = await until(lambda: stored(dropped.stack, dropped.source("lines")), lambda rows: len(rows) >= len(taken))

    assert [
        DOCUMENTS[number - 2].name for number, (body, fate) in enumerate(lines, 1)
        if body.strip() and (number in rejected) not in {each is Fate.REFUSED for each in fate.possible}
    ] == []  # fmt: skip
    assert sorted(body for _, body in found) == sorted(taken)
    assert {"SUCCESS", "FAILED"} == {status for status, _ in found}
    assert CANARY.encode() not in report.read_bytes()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def published(local_stack: Stack) -> str:
    """The prefix of the sources under which every document was published."""
    prefix = f"hostile-queue-{CANARY[-8:]}"
    messages = (
        aio_pika.Message(document.body, headers={"source": f"{prefix}-{place}"})
        for place, document in enumerate(DOCUMENTS)
    )
    await publish(local_stack.amqp, messages)
    return prefix


@pytest.mark.parametrize("place", range(len(DOCUMENTS)), ids=[document.name for document in DOCUMENTS])
async def test_a_whole_message(stack: Stack, published: str, place: int) -> None:
    """A message has been taken, so nothing is refused: what is no event is kept with its bytes."""
    document = DOCUMENTS[place]

    found = await until(lambda: stored(stack, f"{published}-{place}"), bool)

    assert found in [expected(fate, document.body) for fate in document.queue.possible]
