"""Trials run in processes of their own: limited, one at a time, without secrets, and beside events that flow."""

import asyncio
import sys
from typing import Any

import msgspec
import psutil
import pytest

from api_gateway.service import server_config
from api_gateway.settings import GatewaySettings
from api_gateway.trials.process import Trials, TrialTooLargeError
from shared.auth.authenticator import Access
from shared.auth.keys import generate_key
from shared.contracts.errors import OverloadedError, UnavailableError
from shared.runtime.ops import HttpServer
from shared.runtime.service import running
from support.gateway import Gateway, run_gateway
from support.keys import write_keys
from support.waiting import until_true

PATH = "/api/pipelines/try"
HEAD = 'etlpay = 1\nname = "shop"\nsource = "shop"\n'
SHOP = HEAD + '[[table]]\nname = "orders"\n[table.columns]\nid = "/id"\ngross = { from = "/g", type = "decimal" }\n'
TRIAL = {"files": {"shop.toml": SHOP}, "event": {"payload": {"id": "o-1", "g": "1.10"}}}
# Takes longer than anybody waits: each part of the schema is looked at twice as often as the one before.
DOUBLING = {
    "$defs": {f"p{n}": {"anyOf": [{"$ref": f"#/$defs/p{n + 1}"}] * 2} for n in range(40)} | {"p40": {"type": "null"}},
    "$ref": "#/$defs/p0",
}
LONG = {
    "files": {
        "shop.toml": SHOP.replace("[[table]]", '[contract]\nschema = "s.json"\n[[table]]'),
        "s.json": msgspec.json.encode(DOUBLING).decode(),
    },
    "event": {"payload": {"id": "o-1"}},
}
EVENT = {"source_name": "s", "payload": {"value": 1}}


def children() -> list[psutil.Process]:
    return [each for each in psutil.Process().children(recursive=True) if "api_gateway.trials" in each.cmdline()]


async def good_trial(gateway: Gateway) -> dict[str, Any]:
    answer = await gateway.client.post(PATH, json=TRIAL)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


async def test_an_event_is_tried_and_nothing_is_stored() -> None:
    async with run_gateway() as gateway:
        result = await good_trial(gateway)

        assert result["rows"] == {"orders": [{"id": "o-1", "gross": "1.10"}]}
        assert (result["status"], result["cause"], result["errors"]) == ("SUCCESS", None, [])
        assert (gateway.processing.events, gateway.publisher.messages) == ([], [])


async def test_a_file_with_errors_is_told_by_file_line_and_key_path() -> None:
    async with run_gateway() as gateway:
        answer = await gateway.client.post(
            PATH, json=TRIAL | {"files": {"shop.toml": SHOP.replace("decimal", "float")}}
        )

    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    [problem] = answer.json()["lint"]
    assert (problem["file"], problem["line"], problem["path"]) == ("shop.toml", 8, "table[0].columns.gross.type")


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b'{"files": {}}', 422),
        (b" " * (1024 * 1024 + 1), 413),
        (msgspec.json.encode(TRIAL | {"files": {"shop.toml": SHOP, "x.json": " " * 10_000_000}}), 413),
        (msgspec.json.encode(LONG), 422),
    ],
)
async def test_a_request_that_cannot_be_tried_harms_none_that_follows(content: bytes, status: int) -> None:
    async with run_gateway() as gateway:
        answer = await gateway.client.post(PATH, content=content)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert await good_trial(gateway)

    assert children() == []


async def test_one_trial_runs_at_a_time() -> None:
    async with run_gateway() as gateway:
        both = await asyncio.gather(*(gateway.client.post(PATH, json=TRIAL) for _ in range(2)))

        assert sorted(answer.status_code for answer in both) == [200, 503]
        [busy] = [answer for answer in both if answer.status_code == 503]
        assert busy.headers["retry-after"] == "1"
        assert await good_trial(gateway)


async def test_events_are_stored_while_a_trial_takes_all_its_time() -> None:
    done: list[str] = []
    async with run_gateway() as gateway:

        async def post(path: str, body: object) -> None:
            await gateway.client.post(path, json=body)
            done.append(path)

        trial = asyncio.ensure_future(post(PATH, LONG))
        assert await until_true(lambda: bool(children()), 10)
        for _ in range(20):
            await post("/api/ingest", EVENT)
        await trial

        assert done == ["/api/ingest"] * 20 + [PATH]
        assert len(gateway.processing.events) == 20


async def test_a_client_that_goes_ends_its_trial() -> None:
    body = msgspec.json.encode(LONG)
    head = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    # The trial itself would last for a minute.
    slow = Trials((sys.executable, "-c", "import time; time.sleep(60) # api_gateway.trials"), seconds_max=60)
    async with run_gateway(trials=slow) as gateway:
        config = server_config(gateway.app, GatewaySettings(http_port=0))
        async with running(HttpServer(config)) as server:
            assert await until_true(lambda: server.port is not None, 10)
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(head % (PATH.encode(), len(body)) + body)
            started = await until_true(lambda: _sleeping() != [], 10)
            writer.close()

            assert started
            assert await until_true(lambda: _sleeping() == [], 10)


def _sleeping() -> list[psutil.Process]:
    return [each for each in psutil.Process().children() if "time.sleep(60)" in " ".join(each.cmdline())]


@pytest.mark.parametrize(("rights", "status"), [('["read"]', 200), ('["send"]', 403), ('["audit"]', 403)])
async def test_a_key_that_may_read_may_try_whatever_its_sources(tmp_path: Any, rights: str, status: int) -> None:  # noqa: ANN401 - a path
    key = generate_key()
    access = Access(write_keys(tmp_path / "keys.toml", (key, "other", "other-*"), may=rights))
    async with run_gateway(access=access) as gateway:
        answer = await gateway.client.post(PATH, json=TRIAL, headers={"Authorization": f"Bearer {key}"})
        unknown = await gateway.client.post(PATH, json=TRIAL)

    assert (answer.status_code, unknown.status_code) == (status, 401)


def command(program: str) -> tuple[str, ...]:
    return (sys.executable, "-c", program)


async def test_a_trial_gets_no_setting_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETLPAY_POSTGRES_PASSWORD", "secret")
    program = "import os, sys; sys.stdout.write(' '.join(os.environ))"

    names = (await Trials(command(program)).run(b"")).decode().split()

    assert set(names) <= {"PYTHONPATH", "LC_CTYPE"}


@pytest.mark.parametrize("code", ["sys.exit(3)", "os.kill(os.getpid(), signal.SIGKILL)", "os.abort()"])
async def test_a_trial_that_the_kernel_ends_took_too_much(code: str) -> None:
    trials = Trials(command(f"import os, signal, sys; {code}"))

    with pytest.raises(TrialTooLargeError):
        await trials.run(b"")


async def test_a_trial_is_ended_at_its_deadline_with_all_that_it_started() -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    trials = Trials(command(program), seconds_max=2)
    run = asyncio.ensure_future(trials.run(b"x" * 1_000_000))
    assert await until_true(lambda: len(psutil.Process().children(recursive=True)) > 1, 10)
    started = psutil.Process().children(recursive=True)

    with pytest.raises(OverloadedError):
        await trials.run(b"")
    with pytest.raises(UnavailableError):
        await run
    assert await until_true(lambda: _running(started) == [], 10)


def _running(found: list[psutil.Process]) -> list[psutil.Process]:
    return [each for each in found if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


async def test_a_trial_that_fails_by_itself_is_our_fault() -> None:
    with pytest.raises(RuntimeError, match="code 1"):
        await Trials(command("raise SystemExit(1)")).run(b"")
