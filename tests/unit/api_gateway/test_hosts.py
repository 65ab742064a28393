"""Where no key is asked for, a web page can neither write nor read: neither across origins nor by DNS rebinding."""

from pathlib import Path

import httpx2
import msgspec
import pytest

from shared.auth.authenticator import Access
from shared.auth.keys import generate_key
from support.gateway import Gateway, GatewayMaker
from support.keys import write_keys

KEY = generate_key()
EVENT = {"source_name": "shop", "payload": {"value": 1}}
LINE = msgspec.json.encode(EVENT)
JSON = "application/json"


async def post(running: Gateway, path: str = "/api/ingest", **headers: str) -> httpx2.Response:
    body = b"[" + LINE + b"]" if path.endswith("batch") else LINE
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await running.client.post(path, content=body, headers=named)


@pytest.mark.parametrize("path", ["/api/ingest", "/api/ingest/batch"])
async def test_a_body_without_a_content_type_is_refused(gateway: GatewayMaker, path: str) -> None:
    """A page of any origin may send one without asking first."""
    async with gateway() as running:
        del running.client.headers["content-type"]
        without = await post(running, path)
        plain = await post(running, path, content_type="text/plain")
        right = await post(running, path, content_type=JSON)

    assert [without.status_code, plain.status_code] == [415, 415]
    assert right.status_code in {200, 201}
    assert len(running.processing.events) == 1


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.example@127.0.0.1",
        "127.0.0.1 evil.example",
        "[::1].evil.example",
        "[::1",
        "evil.example, 127.0.0.1",
    ],
)
@pytest.mark.parametrize("path", ["/api/ingest", "/api/ingest/batch", "/api/sources", "/api/nothing"])
async def test_a_request_by_a_strange_name_is_refused(gateway: GatewayMaker, path: str, host: str) -> None:
    async with gateway() as running:
        if "ingest" in path:
            answer = await post(running, path, host=host, content_type=JSON)
        else:
            answer = await running.client.get(path, headers={"host": host})

    assert answer.status_code == 421
    assert answer.json()["type"] == "/docs/problems#misdirected"
    assert "ETLPAY_HTTP_ALLOWED_HOSTS" in answer.text
    assert "evil" not in answer.text
    assert running.processing.events == []


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8000",
        "LOCALHOST",
        "127.0.0.1:8000",
        "10.1.2.3",
        "[::1]:8000",
        "[2001:db8::1]",
        "gw",
        "GW:80",
    ],
)
async def test_a_request_by_an_address_or_a_name_of_ours_is_served(gateway: GatewayMaker, host: str) -> None:
    """No page can make a browser believe that an address is another one's."""
    async with gateway(http_host="gw", allow_anonymous=True) as running:
        answer = await post(running, host=host, content_type=JSON)

    assert answer.status_code == 201


async def test_more_names_are_served_where_the_setting_names_them(gateway: GatewayMaker) -> None:
    async with gateway(http_allowed_hosts="api-gateway, pay.example") as running:
        answers = [await post(running, host=host, content_type=JSON) for host in ("api-gateway:8000", "Pay.Example")]
        strange = await post(running, host="evil.example", content_type=JSON)
    async with gateway(http_allowed_hosts="*") as anybody:
        any_host = await post(anybody, host="evil.example", origin="https://evil.example", content_type=JSON)

    assert [answer.status_code for answer in answers] == [201, 201]
    assert strange.status_code == 421
    assert any_host.status_code == 201


async def test_a_request_without_a_host_is_no_browsers(gateway: GatewayMaker) -> None:
    sent = []
    async with gateway() as running:

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": LINE, "more_body": False}

        scope = {"type": "http", "method": "POST", "path": "/api/ingest", "headers": [(b"content-type", JSON.encode())]}
        await running.app(scope, receive, send)  # type: ignore[arg-type]  # messages of ASGI

    assert sent[0]["status"] == 201


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1", "http://10.1.2.3:8000", ""]
)
async def test_a_page_of_another_origin_is_refused(gateway: GatewayMaker, origin: str) -> None:
    async with gateway() as running:
        answer = await post(running, host="localhost:8000", origin=origin, content_type=JSON)
        read = await running.client.get("/api/sources", headers={"host": "localhost:8000", "origin": origin})

    assert [answer.status_code, read.status_code] == [403, 403]
    assert answer.json()["type"] == "/docs/problems#cross-origin"
    assert running.processing.events == []


@pytest.mark.parametrize(
    "origin", ["http://localhost:8000", "https://localhost:8000", "http://pay.example", "https://pay.example:8443"]
)
async def test_our_own_page_and_those_of_named_hosts_are_served(gateway: GatewayMaker, origin: str) -> None:
    """The page at /docs sends its origin too."""
    async with gateway(http_allowed_hosts="pay.example") as running:
        answer = await post(running, host="localhost:8000", origin=origin, content_type=JSON)

    assert answer.status_code == 201


@pytest.mark.parametrize("allowed", ["", "pay.example"])
async def test_where_a_key_is_asked_for_names_are_not(gateway: GatewayMaker, tmp_path: Path, allowed: str) -> None:
    """A page has no key, and could not send one without being allowed to."""
    access = Access(write_keys(tmp_path / "keys.toml", (KEY, "shop", "*")))
    strange = {"host": "evil.example", "origin": "https://evil.example", "content_type": JSON}
    async with gateway(access=access, http_allowed_hosts=allowed) as running:
        served = await post(running, **strange, authorization=f"Bearer {KEY}")

    assert served.status_code == 201


async def test_health_is_told_under_any_name(gateway: GatewayMaker) -> None:
    """Load balancers ask under names of their own, and it tells nothing."""
    async with gateway() as running:
        answer = await running.client.get("/livez", headers={"host": "evil.example"})

    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/readyz?verbose"])
async def test_the_public_port_tells_nothing_of_the_inside(gateway: GatewayMaker, path: str) -> None:
    async with gateway() as running:
        answer = await running.client.get(path)

    assert answer.status_code == (404 if path == "/metrics" else 503)
    assert "intake" not in answer.text
    assert "etlpay_" not in answer.text


@pytest.mark.parametrize(
    ("keys", "setting", "status"), [(False, None, 200), (True, None, 404), (True, True, 200), (False, False, 404)]
)
async def test_the_api_is_described_to_whom_it_is_open(
    gateway: GatewayMaker, tmp_path: Path, *, keys: bool, setting: bool | None, status: int
) -> None:
    access = Access(write_keys(tmp_path / "keys.toml", (KEY, "shop", "*")) if keys else None)
    async with gateway(access=access, http_docs=setting) as running:
        pages = [await running.client.get(path) for path in ("/docs", "/openapi.json", "/docs/assets/swagger-ui.css")]
        problems = await running.client.get("/docs/problems")

    assert [page.status_code for page in pages] == [status] * 3
    assert problems.status_code == 200


@pytest.mark.parametrize("key", ['"order-1"', "order-1", '""', '"open'])
async def test_an_idempotency_key_of_a_whole_batch_is_refused(gateway: GatewayMaker, key: str) -> None:
    """An id belongs to an event: ids made from the place in a batch would name other events where one is left out."""
    async with gateway() as running:
        answer = await post(running, "/api/ingest/batch", idempotency_key=key, content_type=JSON)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/header/Idempotency-Key"
    assert running.processing.events == []
