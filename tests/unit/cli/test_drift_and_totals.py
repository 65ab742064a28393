"""`etlpay pipeline drift` and `etlpay totals` show what the gateway answers, and end with an exit code."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NoReturn, TypeAlias

import httpx2
import msgspec
import pytest
import typer
from typer.testing import CliRunner, Result

from etlpay_cli import gateway
from etlpay_cli.__main__ import app
from etlpay_cli.commands import invocation
from etlpay_cli.settings import CliSettings

Run: TypeAlias = Callable[..., Result]
DRIFT = {
    "pipeline": "shop", "version": 3, "kind": "unknown_member", "place": "/discount", "events": 1204,
    "first_hour": "2026-11-23T08:00:00Z", "last_hour": "2026-11-23T10:00:00Z",
    "example": "019ab2f0-7c10-7000-8000-0123456789ab",
}  # fmt: skip
TOTAL = {
    "name": "order_sums", "view": "data.order_sums", "of": "orders", "pipeline": "shop", "version": 3,
    "must": ["paid <= owed"], "holding": 41, "failing": 0,
}  # fmt: skip
ROW = {"day": "2026-11-23", "rows": "204", "owed": "1099.50", "holds": True, "note": None}


class Gateway:
    """Answers each question with the next of its answers, and notes them."""

    def __init__(self) -> None:
        self.answers: list[httpx2.Response | Exception] = []
        self.asked: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def answer(self, *items: Any, after: str | None = None) -> None:  # noqa: ANN401 - any JSON
        self.answers.append(httpx2.Response(200, content=msgspec.json.encode({"items": items, "next": after})))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """The gateway of a stack that is up."""
    found = Gateway()
    stack = SimpleNamespace(addresses=lambda: SimpleNamespace(http="http://gateway"))
    settings = CliSettings(_env_file=None, api_key="k-1")

    def connect(url: str, key: str) -> httpx2.AsyncClient:
        headers = {"authorization": f"Bearer {key}"}
        return httpx2.AsyncClient(transport=httpx2.MockTransport(found), base_url=url, headers=headers)

    monkeypatch.setattr(invocation, "require_stack", lambda: (None, settings, stack))
    monkeypatch.setattr(gateway, "connect_to", connect)
    return found


@pytest.fixture
def run() -> Run:
    """Call the command with arguments."""
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_drift_is_shown_with_its_place_and_an_event(asked: Gateway, run: Run) -> None:
    asked.answer(DRIFT)

    result = run("pipeline", "drift", "shop", "--since", "2d")

    assert result.exit_code == 0, result.output
    for text in ("shop@3", "unknown member", "/discount", "1204", "2026-11-23 08:00", DRIFT["example"]):
        assert str(text) in result.output
    [request] = asked.asked
    assert request.url.path == "/api/drift"
    assert request.headers["authorization"] == "Bearer k-1"
    assert request.url.params["pipeline"] == "shop"


def test_no_drift_is_said_and_is_no_error(asked: Gateway, run: Run) -> None:
    asked.answer()

    result = run("pipeline", "drift")

    assert result.exit_code == 0
    assert "every event was read whole" in result.output
    assert "pipeline" not in asked.asked[0].url.params


def test_a_terminal_does_not_obey_the_name_of_a_member(asked: Gateway, run: Run) -> None:
    asked.answer(DRIFT | {"place": "/\x1b[2J\x9b[bold]\u202e"})

    result = run("pipeline", "drift")

    assert "[bold]" in result.output
    assert not {"\x1b", "\x9b", "\u202e"} & set(result.output)


@pytest.mark.parametrize(("failing", "exit_code"), [(0, 0), (2, 1)])
def test_all_totals_are_listed_and_one_that_does_not_hold_is_exit_code_1(
    asked: Gateway, run: Run, failing: int, exit_code: int
) -> None:
    asked.answer(TOTAL, after="more")
    asked.answer(TOTAL | {"name": "others", "failing": failing}, TOTAL | {"holding": None, "failing": None})

    result = run("totals")

    assert result.exit_code == exit_code, result.output
    assert asked.asked[1].url.params["cursor"] == "more"
    assert [line.split()[0] for line in result.output.splitlines()] == ["total", "order_sums", "others", "order_sums"]


@pytest.mark.parametrize("flags", [(), ("--json",)])
@pytest.mark.parametrize(("holds", "exit_code"), [(True, 0), (False, 1)])
def test_the_rows_of_a_total_decide_the_exit_code(
    asked: Gateway, run: Run, flags: tuple[str, ...], *, holds: bool, exit_code: int
) -> None:
    asked.answer(ROW | {"holds": holds}, ROW)

    result = run("totals", "order_sums", "--since", "2d", *flags)

    assert result.exit_code == exit_code, result.output
    assert "1099.50" in result.output
    assert asked.asked[0].url.path == "/api/totals/order_sums"
    assert "since" in asked.asked[0].url.params


def test_sums_that_say_what_came_in_hold(asked: Gateway, run: Run) -> None:
    asked.answer({"currency": "EUR", "sum": "1.10"})

    assert run("totals", "orders_totals").exit_code == 0


def test_short_pages_are_put_together_up_to_the_limit(asked: Gateway, run: Run) -> None:
    asked.answer(ROW | {"day": "1"}, after="a")
    asked.answer(ROW | {"day": "2"}, ROW | {"day": "3"}, after="b")

    result = run("totals", "order_sums", "--limit", "3", "--json")

    assert [row["day"] for row in msgspec.json.decode(result.stdout)["items"]] == ["1", "2", "3"]
    assert [request.url.params["limit"] for request in asked.asked] == ["3", "2"]


@pytest.mark.parametrize(
    ("answer", "exit_code"),
    [
        (httpx2.Response(404), 2),
        (httpx2.Response(422), 2),
        (httpx2.Response(401), 2),
        (httpx2.Response(403), 2),
        (httpx2.Response(503), 5),
        (httpx2.Response(500), 5),
        (httpx2.Response(200, content=b"<html>"), 5),
        (httpx2.ConnectError("refused"), 5),
        (httpx2.ReadTimeout("slow"), 5),
    ],
)
@pytest.mark.parametrize("command", [("totals", "a/../b?c"), ("pipeline", "drift", "x")])
def test_what_is_not_answered_is_a_usage_error_or_a_stack_that_is_not_up(
    asked: Gateway, run: Run, command: tuple[str, ...], answer: httpx2.Response | Exception, exit_code: int
) -> None:
    asked.answers.append(answer)

    result = run(*command)

    assert result.exit_code == exit_code, result.output
    assert "error:" in result.output
    assert asked.asked[0].url.raw_path.partition(b"?")[0] in {b"/api/totals/a%2F..%2Fb%3Fc", b"/api/drift"}


@pytest.mark.parametrize("given", [("--since", "yesterday"), ("--since", "9999d"), ("--limit", "0")])
@pytest.mark.parametrize("command", [("totals",), ("pipeline", "drift")])
def test_a_time_that_is_none_is_a_usage_error(
    asked: Gateway, run: Run, command: tuple[str, ...], given: tuple[str, ...]
) -> None:
    assert run(*command, *given).exit_code == 2
    assert asked.asked == []


@pytest.mark.parametrize("command", [("totals",), ("totals", "x"), ("pipeline", "drift")])
def test_without_a_stack_the_exit_code_is_5(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    def missing() -> NoReturn:
        raise typer.Exit(5)

    monkeypatch.setattr(invocation, "require_stack", missing)

    assert run(*command).exit_code == 5
