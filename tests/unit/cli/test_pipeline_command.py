"""`etlpay pipeline` checks, tests, tries and proposes pipeline files without a stack, and prints no masked value."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest
from typer.testing import CliRunner, Result

from etlpay_cli.__main__ import app

PIPELINE = """\
etlpay = 1
name   = "shop"
source = "shop"

[event]
type = "/type"

[mask]
"/mail" = "domain"

[[table]]
name   = "orders"
types  = ["order.*"]
mode   = "latest"
key    = ["id"]
newest = "at"
gone   = { "/type" = "order.deleted" }

[table.columns]
id       = "/id"
at       = { from = "/at", type = "timestamp" }
amount   = { from = "/amount", type = "money", currency = "currency", required = true }
currency = { from = "/currency", type = "currency" }
mail     = "/mail"
"""
TESTS = """\
[[test]]
name  = "an order"
event = "samples/order.json"

[[test.rows.orders]]
amount = "10.99"
mail   = "example.com"
"""
ORDER = {
    "type": "order.created",
    "id": "o-1",
    "at": "2026-03-01T09:30:00Z",
    "amount": "10.99",
    "currency": "EUR",
    "mail": "ana.souza@example.com",
}

Run: TypeAlias = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that is no checkout, with a pipeline file, its tests and a sample."""
    monkeypatch.chdir(tmp_path)
    pipelines = tmp_path / "pipelines"
    (pipelines / "samples").mkdir(parents=True)
    (pipelines / "shop.toml").write_text(PIPELINE)
    (pipelines / "shop.test.toml").write_text(TESTS)
    (pipelines / "samples" / "order.json").write_bytes(msgspec.json.encode(ORDER))
    return pipelines


@pytest.fixture
def run(folder: Path) -> Run:
    def invoke(*arguments: str, stdin: str | None = None) -> Result:
        """Return the result of `etlpay pipeline` beside the folder `pipelines`."""
        assert folder.is_dir()
        return CliRunner().invoke(app, ["pipeline", *arguments], input=stdin)

    return invoke


def event_with(**changes: object) -> str:
    return msgspec.json.encode({**ORDER, **changes}).decode()


def test_a_folder_without_problems_passes_its_lint(run: Run) -> None:
    result = run("lint")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "1 file, 0 errors\n", "")


def test_a_problem_is_told_with_file_line_and_path(run: Run, folder: Path) -> None:
    (folder / "shop.toml").write_text(PIPELINE.replace('currency = "currency"', 'currency = "curency"'))

    result = run("lint")

    assert result.exit_code == 1
    assert result.stderr.startswith("pipelines/shop.toml:22: table[0].columns.amount.currency: ")


def test_problems_are_data_too(run: Run, folder: Path) -> None:
    (folder / "shop.toml").write_text(PIPELINE.replace('name   = "orders"', 'nmae   = "orders"'))

    result = run("lint", "--json")

    document = msgspec.json.decode(result.stdout)
    assert (result.exit_code, document["files"]) == (1, 1)
    assert {"pipelines/shop.toml"} == {problem["file"] for problem in document["problems"]}
    assert any("name" in problem["detail"] for problem in document["problems"])


def test_a_test_file_that_cannot_be_read_is_a_problem_with_its_line(run: Run, folder: Path) -> None:
    (folder / "shop.test.toml").write_text(TESTS.replace("event", "evnt"))

    for command in ("lint", "test"):
        result = run(command)
        assert result.exit_code == 1
        assert result.stderr.startswith("pipelines/shop.test.toml:1: ")


def test_a_pipeline_without_tests_is_told_and_is_no_error(run: Run, folder: Path) -> None:
    (folder / "shop.test.toml").unlink()

    result = run("test")

    assert result.exit_code == 0
    assert "pipelines/shop.test.toml: warning: there are no tests of this pipeline" in result.stderr


@pytest.mark.parametrize("command", ["lint", "test"])
def test_what_is_not_there_is_a_usage_error(run: Run, folder: Path, command: str) -> None:
    assert run(command, "nowhere").exit_code == 2
    (folder / "examples").mkdir()
    (folder / "shop.toml").rename(folder / "examples" / "shop.toml")
    (folder / "shop.test.toml").unlink()

    result = run(command)

    assert result.exit_code == 2
    assert "holds no pipeline file; look in pipelines/examples" in result.stderr


def test_a_file_of_tests_is_no_pipeline_file(run: Run) -> None:
    result = run("test", "pipelines/shop.test.toml")

    assert result.exit_code == 2
    assert "holds tests; name shop.toml" in result.stderr


def test_two_pipelines_that_cannot_be_active_together_are_told(run: Run, folder: Path) -> None:
    (folder / "shop2.toml").write_text(PIPELINE)
    (folder / "shop2.test.toml").write_text(TESTS)

    assert run("lint").exit_code == 1
    assert run("lint", "pipelines/shop2.toml").exit_code == 0


def test_tests_that_hold_pass(run: Run) -> None:
    result = run("test")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == ["ok     shop.toml: an order", "1 test, 0 failed"]


def test_a_difference_fails_and_names_only_the_column_that_differs(run: Run, folder: Path) -> None:
    (folder / "shop.test.toml").write_text(TESTS.replace("10.99", "10.9"))

    result = run("test")

    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "FAILED shop.toml: an order",
        "       orders row 1: amount: expected 10.9, is 10.99",
        "1 test, 1 failed",
    ]


def test_tests_are_chosen_by_name(run: Run, folder: Path) -> None:
    (folder / "shop.test.toml").write_text(TESTS + TESTS.replace("an order", "another").replace("10.99", "0"))

    assert run("test").exit_code == 1
    assert run("test", "-k", "an order").stdout.splitlines()[-1] == "1 test, 0 failed"


def test_update_writes_what_came_out_of_a_test_that_states_nothing(run: Run, folder: Path) -> None:
    head = '[[test]]\nname  = "an order"\nevent = "samples/order.json"\n'
    failing = '\n[[test]]\nname   = "no amount"\nevent  = "samples/order.json"\nchange = { "/amount" = "@remove" }\n'
    (folder / "shop.test.toml").write_text(head + failing)

    assert run("test").exit_code == 1
    assert run("test", "--update").exit_code == 0

    written = (folder / "shop.test.toml").read_text()
    assert written.startswith(head)
    assert 'amount   = "10.99"' in written
    assert 'code = "missing", cause = "shop.orders.amount:missing"' in written
    assert run("test").exit_code == 0


def test_update_leaves_what_is_stated_as_it_is(run: Run, folder: Path) -> None:
    failing = TESTS.replace("10.99", "1.00")
    (folder / "shop.test.toml").write_text(failing + '\n[[test]]\nname  = "new"\nevent = "samples/order.json"\n')

    result = run("test", "--update")

    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "2 tests, 1 failed"
    assert (folder / "shop.test.toml").read_text().startswith(failing)
    assert (folder / "shop.test.toml").read_text().count("[[test.rows.orders]]") == 2


def test_results_are_junit_and_json(run: Run, folder: Path) -> None:
    (folder / "shop.test.toml").write_text(TESTS.replace('"an order"', '"an <order>"').replace("10.99", "1"))

    result = run("test", "--junit", "results.xml", "--json")

    written = Path("results.xml").read_text()
    assert '<testsuite name="shop.toml" tests="1" failures="1">' in written
    assert 'name="an &lt;order&gt;"><failure message="orders row 1: amount: expected 1, is 10.99">' in written
    (file,) = msgspec.json.decode(result.stdout)["files"]
    assert [test["ok"] for test in file["tests"]] == [False]


def test_a_file_for_results_that_cannot_be_written_is_a_usage_error(run: Run) -> None:
    assert run("test", "--junit", "no/such/folder.xml").exit_code == 2


def test_a_table_or_column_that_no_test_fills_is_a_warning(run: Run, folder: Path) -> None:
    (folder / "shop.test.toml").write_text(TESTS.replace("[[test.rows.orders]]", 'change = { "/mail" = "@remove" }'))
    (folder / "shop.test.toml").write_text(
        '[[test]]\nname = "a"\nevent = "samples/order.json"\nchange = { "/mail" = "@remove" }\nrows = {}\n'
    )

    result = run("test")

    assert result.exit_code == 0
    assert "orders.mail: filled in 0 of 1 rows" in result.stderr


def test_the_rows_of_an_event_are_shown(run: Run) -> None:
    result = run("try", "pipelines/shop.toml", "pipelines/samples/order.json")

    assert result.exit_code == 0
    shown = [line.split() for line in result.stdout.splitlines()]
    assert ["orders"] in shown
    assert ["amount", "10.99"] in shown
    assert ["at", "2026-03-01T09:30:00Z"] in shown


def test_the_problems_of_an_event_are_shown_with_place_and_code(run: Run) -> None:
    result = run("try", "pipelines/shop.toml", stdin=event_with(amount="10.999", currency="ZZZ"))

    assert result.exit_code == 1
    assert "error: /currency: currency: " in result.stdout
    assert "ZZZ" not in result.stdout


def test_what_was_tried_is_data_too(run: Run) -> None:
    lines = "\n".join(
        [event_with(), event_with(amount=None), event_with(type="order.deleted"), event_with(type="x"), ""]
    )

    result = run("try", "pipelines/shop.toml", "-", "--json", stdin=lines)

    events: list[dict[str, Any]] = msgspec.json.decode(result.stdout)["events"]
    assert result.exit_code == 1
    assert [len(event["rows"]) for event in events] == [1, 0, 1, 0]
    assert events[0]["rows"][0]["values"]["amount"] == "10.99"
    assert [(each["pointer"], each["code"]) for each in events[1]["problems"]] == [("/amount", "missing")]
    assert events[2]["rows"][0]["gone"]
    assert not events[3]["matched"]


def test_a_masked_value_is_never_printed(run: Run, folder: Path) -> None:
    (folder / "shop.test.toml").write_text(TESTS.replace("example.com", "ana"))

    printed = run("test").output + run("test", "--json").output
    printed += run("try", "pipelines/shop.toml", "pipelines/samples/order.json").output
    printed += run("try", "pipelines/shop.toml", stdin=event_with(amount="no")).output

    assert "example.com" in printed
    assert "ana.souza" not in printed


@pytest.mark.parametrize(
    ("file", "event", "code"),
    [
        ("pipelines/nowhere.toml", "-", 2),
        ("pipelines/shop.toml", "nowhere.json", 2),
        ("pipelines/shop.toml", "pipelines/shop.toml", 2),
    ],
)
def test_what_cannot_be_read_is_a_usage_error(run: Run, file: str, event: str, code: int) -> None:
    assert run("try", file, event, stdin="{}").exit_code == code


def test_an_event_that_is_no_json_is_a_usage_error(run: Run) -> None:
    result = run("try", "pipelines/shop.toml", stdin="{")

    assert result.exit_code == 2
    assert "stdin.json: is no JSON" in result.stderr


def test_a_file_with_errors_is_not_tried(run: Run, folder: Path) -> None:
    (folder / "shop.toml").write_text(PIPELINE.replace("etlpay = 1", "etlpay = 2"))

    result = run("try", "pipelines/shop.toml", stdin=event_with())

    assert result.exit_code == 1
    assert result.stderr.startswith("pipelines/shop.toml:1: etlpay: ")


def test_a_proposal_is_printed_and_nothing_is_written(run: Run, folder: Path) -> None:
    before = sorted(folder.rglob("*"))

    result = run("infer", "pipelines/samples/order.json", "--source", "shop-1")

    assert (result.exit_code, result.stderr) == (0, "")
    assert 'name   = "order"\nsource = "shop-1"\n' in result.stdout
    assert sorted(folder.rglob("*")) == before
    (folder / "order.toml").write_text(result.stdout)
    assert run("try", "pipelines/order.toml", "pipelines/samples/order.json").exit_code == 0


def test_a_proposal_is_data_too(run: Run) -> None:
    document = msgspec.json.decode(run("infer", "-", "--name", "shop", "--json", stdin=event_with()).stdout)

    assert document["events"] == 1
    assert document["pipeline"].startswith("# Proposed from 1 event.")


def test_events_for_which_nothing_can_be_proposed_are_a_usage_error(run: Run) -> None:
    assert run("infer", "-", stdin="[1]").exit_code == 2
