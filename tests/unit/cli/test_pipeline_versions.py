"""`etlpay pipeline plan`, `apply` and the decisions about versions start the one-shot of the stack that is up."""

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeAlias

import pytest
import typer
from typer.testing import CliRunner, Result

from etlpay_cli.__main__ import app
from etlpay_cli.commands import pipeline_versions
from etlpay_cli.docker import _pipelines_arguments
from etlpay_cli.errors import StackError
from etlpay_cli.layout import Layout
from etlpay_cli.local import services

Run: TypeAlias = Callable[..., Result]


class OneShots:
    """A stack that notes how its one-shot is started."""

    def __init__(self) -> None:
        self.started: list[tuple[tuple[str, ...], Path | None]] = []
        self.code = 0
        self.error: StackError | None = None

    def run_pipelines(self, *arguments: str, path: Path | None = None) -> int:
        if self.error:
            raise self.error
        self.started.append((arguments, path))
        return self.code


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> OneShots:
    """A stack that is up."""
    found = OneShots()
    monkeypatch.setattr(pipeline_versions, "require_stack", lambda: (None, None, found))
    monkeypatch.setattr("getpass.getuser", lambda: "ana")
    return found


@pytest.fixture
def run() -> Run:
    """Call the command with arguments."""
    return lambda *arguments: CliRunner().invoke(app, ["pipeline", *arguments])


@pytest.mark.parametrize(
    ("given", "started"),
    [
        (("plan",), ("plan",)),
        (("plan", "--sql", "--json"), ("plan", "--sql", "--json")),
        (("apply", "--yes"), ("apply", "--yes", "--by=ana")),
        (
            ("apply", "--plan", "0123456789ab", "--label", "v1.2", "--verify-only", "--by", "ci"),
            ("apply", "--plan=0123456789ab", "--by=ci", "--label=v1.2", "--verify-only"),
        ),
        (
            ("activate", "shop@3", "--reason", "wrong fees"),
            ("activate", "--reason=wrong fees", "--by=ana", "--", "shop@3"),
        ),
        (("off", "shop", "--reason", "-x"), ("off", "--reason=-x", "--by=ana", "--", "shop")),
        (("hold", "shop", "--reason", "r", "--json"), ("hold", "--reason=r", "--by=ana", "--json", "--", "shop")),
        (("resume", "shop", "--reason", "r"), ("resume", "--reason=r", "--by=ana", "--", "shop")),
        (("list",), ("list",)),
        (("show", "shop@2", "--json"), ("show", "--json", "shop@2")),
    ],
)
def test_a_command_starts_the_one_shot_and_says_who_decides(
    stack: OneShots, run: Run, given: tuple[str, ...], started: tuple[str, ...]
) -> None:
    result = run(*given)

    assert result.exit_code == 0, result.output
    assert stack.started == [(started, None)]


@pytest.mark.parametrize(("code", "exit_code"), [(0, 0), (1, 1), (2, 2), (-9, 1), (137, 1)])
def test_its_exit_code_is_that_of_the_command(stack: OneShots, run: Run, code: int, exit_code: int) -> None:
    stack.code = code

    assert run("plan").exit_code == exit_code


def test_a_path_is_handed_over_and_one_that_is_missing_is_a_usage_error(
    stack: OneShots, run: Run, tmp_path: Path
) -> None:
    assert run("plan", str(tmp_path)).exit_code == 0
    assert run("plan", str(tmp_path / "none")).exit_code == 2
    assert stack.started == [(("plan",), tmp_path)]


@pytest.mark.parametrize("given", [("apply",), ("apply", "--yes", "--plan", "0123456789ab"), ("off", "shop")])
def test_what_is_not_said_clearly_is_a_usage_error(stack: OneShots, run: Run, given: tuple[str, ...]) -> None:
    assert run(*given).exit_code == 2
    assert stack.started == []


def test_without_a_stack_the_exit_code_is_5(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> NoReturn:
        raise typer.Exit(5)

    monkeypatch.setattr(pipeline_versions, "require_stack", missing)

    assert run("list").exit_code == 5


def test_a_stack_of_a_release_before_says_what_to_do(stack: OneShots, run: Run) -> None:
    stack.error = StackError("make down, then make up")

    result = run("list")

    assert result.exit_code == 1
    assert "make down" in result.output


def test_a_container_sees_the_path_that_was_given(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text("")

    assert _pipelines_arguments(("plan",), None)[-2:] == ("pipelines", "plan")
    assert _pipelines_arguments(("plan",), tmp_path)[-5:] == (
        "--volume", f"{tmp_path}:/given:ro", "pipelines", "plan", "/given",
    )  # fmt: skip
    assert _pipelines_arguments(("plan",), file)[-2:] == ("plan", "/given/shop.toml")


def test_the_process_gets_secrets_as_files_and_the_folder_of_the_checkout(tmp_path: Path) -> None:
    layout = Layout(tmp_path)

    task = services.pipelines(layout, {"postgres": 5432}, "apply", "--yes")

    assert task.command[1:] == ("-m", "processor.pipelines", "apply", "--yes")
    own = {name: value for name, value in task.environment.items() if name.startswith("ETLPAY_")}
    assert own["ETLPAY_POSTGRES_URL"] == "postgresql://etlpay_pipelines@127.0.0.1:5432/etlpay"
    assert own["ETLPAY_POSTGRES_PASSWORD_FILE"] == str(layout.secret("pipelines/postgres_password"))
    assert own["ETLPAY_MASK_KEY_FILE"] == str(layout.secret("pipelines/mask_key"))
    assert own["ETLPAY_PIPELINES_FOLDER"] == str(tmp_path / "pipelines")


def test_only_files_of_the_folder_itself_are_applied_at_a_start(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    (tmp_path / "pipelines" / "examples").mkdir(parents=True)
    (tmp_path / "pipelines" / "examples" / "shop.toml").write_text("")
    (tmp_path / "pipelines" / "shop.test.toml").write_text("")

    assert not layout.has_pipelines
    (tmp_path / "pipelines" / "shop.toml").write_text("")
    assert layout.has_pipelines
