"""An event whose request came as a whole is served without a task, and answered as any other, byte for byte."""

import asyncio
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from api_gateway.app import Gateway
from api_gateway.http.headers import read_headers
from api_gateway.http.request import PIECE_BYTES_MAX
from api_gateway.http.whole import WholeRequest
from api_gateway.schemas import HttpResponse
from api_gateway.settings import GatewaySettings
from shared.auth.authenticator import Access
from shared.auth.keys import generate_key
from shared.contracts.errors import OverloadedError, Problem, UnavailableError
from shared.contracts.event import Envelope, now
from shared.contracts.receipt import Count
from shared.contracts.result import Recorded
from shared.counters import TALLY
from shared.testing.processing import FakeProcessing
from support.gateway import run_gateway
from support.keys import FakeClock, write_keys
from support.over_protocol import Talk, turns


class Waits(FakeProcessing):
    """Answers when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()

    async def process(self, events: Sequence[Envelope]) -> list[Recorded]:
        await self.may.wait()
        return await super().process(events)


class Fails(FakeProcessing):
    """Raises an error."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def process(self, events: Sequence[Envelope]) -> list[Recorded]:  # noqa: ARG002 - as the real one
        raise self._error


KEY = generate_key()
EVENT = b'{"source_name":"s","id":"1","payload":{"amount":"1.10"}}'
_VARYING = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|20\d\d-\d\d-\d\dT[0-9:.]+Z")


def request(body: bytes = EVENT, *headers: bytes, length: bool = True) -> bytes:
    head = [b"POST /api/ingest HTTP/1.1", b"host: 127.0.0.1", b"content-type: application/json", *headers]
    if length:
        head.append(b"content-length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + body


async def talk_of(
    pieces: list[bytes], *, whole: bool, processing: FakeProcessing | None = None, **chosen: object
) -> tuple[bytes, bool, list[Count], int]:
    """Return what is answered, whether the connection is closed, what is counted, and how many events are stored."""
    TALLY.take(now())
    async with run_gateway(processing, **chosen) as gateway:  # type: ignore[arg-type] # settings of any type
        talk = Talk(gateway.app, GatewaySettings(_env_file=None, **chosen), whole=whole)  # type: ignore[arg-type] # the real one
        written = await talk.send(*pieces)
        await turns()
        stored = len(gateway.processing.events)
        closed = talk.connection.closed
        talk.protocol.connection_lost(None)
        await turns()
    return _VARYING.sub(b"*", written), closed, sorted(TALLY.take(now()).counts, key=repr), stored


async def alike(pieces: list[bytes], make: Callable[[], FakeProcessing] = FakeProcessing, **chosen: object) -> bytes:
    """Require that both ways answer alike; return the answer."""
    one = await talk_of(pieces, whole=True, processing=make(), **chosen)
    other = await talk_of(pieces, whole=False, processing=make(), **chosen)
    assert one == other
    return one[0]


@pytest.fixture
def no_asgi(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every request fail that takes the ASGI way."""

    async def refuse(_: Gateway, __: Scope, ___: Receive, ____: Send) -> None:
        raise AssertionError("this request took the ASGI way")

    monkeypatch.setattr(Gateway, "__call__", refuse)


@pytest.mark.usefixtures("no_asgi")
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request(), b"201 Created"),
        (request(EVENT, b'idempotency-key: "1"'), b"201 Created"),
        (request(b"{"), b"400 Bad Request"),
        (request(b'{"source_name":"s"}'), b"422 Unprocessable Entity"),
        (request(EVENT, b"host: elsewhere.example"), b"421 Misdirected Request"),
        (request(EVENT, b"content-encoding: gzip"), b"415 Unsupported Media Type"),
    ],
)
async def test_a_usual_request_needs_no_task(sent: bytes, status: bytes) -> None:
    written, closed, *_ = await talk_of([sent], whole=True)

    assert written.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert not closed


PATHS = st.sampled_from([b"/api/ingest"] * 6 + [b"/api/ingest?a=1", b"/api/ingest/batch"])
VERSIONS = st.sampled_from([b"1.1"] * 6 + [b"1.0"])
HEADERS = st.lists(
    st.sampled_from(
        [
            b"expect: 100-continue",
            b"prefer: respond-async",
            b"prefer: wait=5",
            b"prefer: handling=lenient",
            b'idempotency-key: "1"',
            b"idempotency-key: a b",
            b'idempotency-key: "2"',
            b"connection: close",
            b"connection: keep-alive",
            b"content-encoding: gzip",
            b"content-encoding: identity",
            b"content-type: text/plain",
            b"content-type: application/cloudevents+json; charset=utf-8",
            b"host: elsewhere.example",
            b"origin: https://elsewhere.example",
            b"authorization: Bearer x",
            b"upgrade: h2c\r\nconnection: upgrade",
            b"x-a: " + b"a" * 300,
            b"content-length: 3",
        ]
    ),
    max_size=2,
)
BODIES = st.sampled_from(
    [
        EVENT,
        EVENT,
        b'{"source_name":"s","payload":{"amount": 1.10}}',
        b'{"source_name":"s","id":"1","payload":{"amount":"2"}}',
        b'{"source_name":"s","id":"2","payload":{"fails":true}}',
        b'{"source_name":"s","id":"3","payload":{"t":"' + "é".encode() * 200 + b'"}}',
        b'{"source_name":"*","payload":{}}',
        b'{"source_name":"s","payload":[]}',
        b'{"source_name":"s","payload":{},"x":1}',
        b'{"source_name":"s","payload":{"a":"\xff"}}',
        b"",
        b"{",
        b"[]",
        b'{"source_name":"s","payload":{"t":"' + b"x" * 2_000 + b'"}}',
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    body = draw(BODIES)
    head = [b"POST %b HTTP/%b" % (draw(PATHS), draw(VERSIONS)), b"host: 127.0.0.1"]
    head += [b"content-type: application/json", *draw(HEADERS)]
    if draw(st.sampled_from([False] * 6 + [True])):
        return b"\r\n".join([*head, b"transfer-encoding: chunked"]) + b"\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
            len(body),
            body,
        )
    return b"\r\n".join([*head, b"content-length: %d" % len(body)]) + b"\r\n\r\n" + body


@st.composite
def conversations(draw: st.DrawFn) -> list[bytes]:
    """Return the pieces in which one to three requests arrive, perhaps with something broken at the end."""
    sent = b"".join(draw(st.lists(requests(), min_size=1, max_size=3)))
    sent += draw(st.sampled_from([b""] * 6 + [b"\r\n", b"POST /api", b"broken\r\n\r\n", b"\x00"]))
    cuts = sorted(draw(st.lists(st.integers(0, len(sent)), max_size=2)))
    return [piece for low, high in zip([0, *cuts], [*cuts, len(sent)], strict=True) if (piece := sent[low:high])]


def fails(event: Envelope) -> list[Problem]:
    return [Problem("/fails", "is set")] if b"fails" in event.body else []


@settings(max_examples=60, deadline=None)
@given(pieces=conversations())
@example(pieces=[request() + request()])
@example(pieces=[request()[:-3], request()[-3:]])
@example(pieces=[request(EVENT, b"connection: close")])
@example(pieces=[request(), b"broken\r\n\r\n"])
def test_generated_requests_are_answered_alike(pieces: list[bytes]) -> None:
    asyncio.run(alike(pieces, lambda: FakeProcessing(fails), body_bytes_max=1_500, http_head_bytes_max=600))


@pytest.mark.parametrize("first", [b"PUT /api/ingest", b"POST /api/ingest/", b"POST /api", b"POST /api/ingesT"])
async def test_what_is_no_event_is_answered_alike(first: bytes) -> None:
    found = await alike([request().replace(b"POST /api/ingest", first)])

    assert found.split()[1] in {b"404", b"405"}


@pytest.mark.parametrize(
    "sent",
    [
        request(EVENT, b"expect: 100-continue"),
        request(EVENT, b"prefer: respond-async"),
        request(EVENT, b"connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0"),
        request(EVENT.replace(b"1.10", b"x" * 20_000)),
        request(EVENT.replace(b"1.10", b"x" * 40_000)),
        request(EVENT, b"content-length: %d" % len(EVENT)),
    ],
)
async def test_what_is_unusual_is_answered_alike(sent: bytes) -> None:
    await alike([sent])


async def test_a_rate_that_is_used_up_is_told_before_anything_else() -> None:
    async def answers(*, whole: bool) -> bytes:
        async with run_gateway(access=Access(None, rate=1, clock=FakeClock())) as gateway:
            talk = Talk(gateway.app, GatewaySettings(_env_file=None), whole=whole)
            return await talk.send(request()) + await talk.send(request(EVENT, b"content-type: text/plain"))

    found = await answers(whole=True)
    assert _VARYING.sub(b"*", found) == _VARYING.sub(b"*", await answers(whole=False))
    assert re.findall(rb"HTTP/1.1 (\d+)", found) == [b"201", b"429"]


async def test_a_client_that_does_not_read_waits_for_its_response_alike() -> None:
    async def answers(*, whole: bool) -> tuple[bytes, bytes]:
        async with run_gateway() as gateway:
            talk = Talk(gateway.app, GatewaySettings(_env_file=None), whole=whole)
            talk.protocol.pause_writing()
            paused = await talk.send(request())
            talk.protocol.resume_writing()
            await turns()
            return paused, _VARYING.sub(b"*", talk.connection.written)

    assert await answers(whole=True) == await answers(whole=False)
    assert (await answers(whole=True))[0] == b""


async def test_an_event_that_goes_to_the_queue_is_noted() -> None:
    found = await alike([request()], lambda: Fails(UnavailableError("away")))

    assert found.startswith(b"HTTP/1.1 202 Accepted\r\n")
    async with run_gateway(Fails(UnavailableError("away"))) as gateway:
        await Talk(gateway.app, GatewaySettings(_env_file=None)).send(request())
        assert list(gateway.cache.queued.values()) == ["s"]


@pytest.mark.parametrize("error", [OverloadedError("full"), RuntimeError("a secret")])
async def test_an_error_is_answered_alike(error: Exception) -> None:
    found = await alike([request()], lambda: Fails(error), fallback_to_queue=False)

    assert found.split()[1] in {b"503", b"500"}
    assert b"secret" not in found


@pytest.mark.parametrize("limits", [{"http_requests_max": 1}, {"bodies_bytes_max": 60}])
async def test_what_is_over_a_limit_is_refused_alike(limits: dict[str, int]) -> None:
    """The first request holds the limit: nothing answers it."""

    async def both(*, whole: bool) -> bytes:
        processing = Waits()
        async with run_gateway(processing, **limits) as gateway:  # type: ignore[arg-type] # as above
            chosen = GatewaySettings(_env_file=None, **limits)  # type: ignore[arg-type] # settings of any type
            first = Talk(gateway.app, chosen, whole=whole)
            await first.send(request())
            refused = await Talk(gateway.app, chosen, whole=whole).send(request())
            processing.may.set()
            await turns()
            assert first.connection.written.startswith(b"HTTP/1.1 201")
            return refused + await Talk(gateway.app, chosen, whole=whole).send(request())

    one, other = await both(whole=True), await both(whole=False)
    assert _VARYING.sub(b"*", one) == _VARYING.sub(b"*", other)
    assert re.findall(rb"HTTP/1.1 (\d+)", one) == [b"503", b"200"]


@pytest.mark.parametrize(
    ("key", "source", "status"), [(KEY, "s", b"201"), (KEY, "t", b"403"), ("etlp_x", "s", b"401"), ("", "s", b"401")]
)
async def test_keys_are_asked_for_alike(tmp_path: Path, key: str, source: str, status: bytes) -> None:
    keys = write_keys(tmp_path / "keys.toml", (KEY, "shop", "s"))
    headers = [f"authorization: Bearer {key}".encode()] if key else []
    sent = request(EVENT.replace(b'"s"', f'"{source}"'.encode()), *headers)

    async def answer(*, whole: bool) -> bytes:
        async with run_gateway(access=Access(keys)) as gateway:
            written = await Talk(gateway.app, GatewaySettings(_env_file=None), whole=whole).send(sent)
            return _VARYING.sub(b"*", written)

    assert await answer(whole=True) == await answer(whole=False)
    assert (await answer(whole=True)).split()[1] == status


async def test_a_large_response_is_written_as_the_client_reads() -> None:
    """The stored payload has many blanks; the same event comes without them."""
    blanks = b'{"source_name":"s","id":"1","payload":{"a":1' + b" " * 3 * PIECE_BYTES_MAX + b"}}"
    async with run_gateway() as gateway:
        talk = Talk(gateway.app, GatewaySettings(_env_file=None))
        await talk.send(request(blanks))
        talk.connection.written = b""
        sent = request(b'{"source_name":"s","id":"1","payload":{"a":1}}')
        talk.protocol.data_received(sent)
        talk.protocol.pause_writing()
        await turns()
        first = len(talk.connection.written)
        talk.protocol.resume_writing()
        await turns()

        assert first == 0
        assert len(talk.connection.written) > 3 * PIECE_BYTES_MAX
        assert talk.connection.segments >= 4


async def test_nothing_is_written_to_a_client_that_is_gone() -> None:
    processing = Waits()
    async with run_gateway(processing) as gateway:
        talk = Talk(gateway.app, GatewaySettings(_env_file=None))
        talk.protocol.data_received(request())
        await turns()
        talk.protocol.connection_lost(None)
        processing.may.set()
        await turns()

        assert talk.connection.written == b""
        assert talk.state.total_requests == 0
        assert len(gateway.processing.events) == 1
        # What it held is free again.
        assert (await Talk(gateway.app, GatewaySettings(_env_file=None)).send(request())).startswith(b"HTTP/1.1 200")


async def test_a_server_that_ends_answers_first_and_closes_then() -> None:
    processing = Waits()
    async with run_gateway(processing) as gateway:
        talk = Talk(gateway.app, GatewaySettings(_env_file=None))
        talk.protocol.data_received(request())
        await turns()
        talk.protocol.shutdown()
        assert not talk.connection.closed
        processing.may.set()
        await turns()

        assert talk.connection.written.startswith(b"HTTP/1.1 201")
        assert b"\r\nconnection: close\r\n" in talk.connection.written
        assert talk.connection.closed


async def test_a_fault_after_the_response_begins_no_other_one() -> None:
    written: list[int] = []
    whole = WholeRequest(read_headers([]), "", b"", lambda _, response: written.append(response.status))
    whole.respond(HttpResponse(201, b"{}"))

    whole.fail(RuntimeError("a fault"))

    assert written == [201]
