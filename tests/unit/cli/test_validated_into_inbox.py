"""A valid file is put into the inbox: whole, under its own name, and never over another one."""

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TypeAlias

import msgspec
import pytest
from typer.testing import CliRunner, Result

from etlpay_cli.__main__ import app
from etlpay_cli.commands import validate as command
from etlpay_cli.validation.inbox import InboxError, put_into_inbox

PIPELINE = """\
etlpay = 1
name   = "figures"
source = "figures"

[[table]]
name   = "figures"
[table.columns]
country = { from = "country", required = true }
"""
GOOD = b"country,x\nDE,\nNO,\n"
BAD = b"country,x\n,1\nNO,2\n"

Load: TypeAlias = Callable[..., Result]


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """Return the inbox of a stack."""
    folder = tmp_path / "data" / "inbox"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def load(tmp_path: Path, inbox: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Return what validates files and loads them into a stack that only has an inbox."""
    stack = SimpleNamespace(addresses=lambda: SimpleNamespace(inbox=str(inbox)))
    monkeypatch.setattr(command, "require_stack", lambda: (None, None, stack))
    (tmp_path / "figures.toml").write_text(PIPELINE)

    def call(*names: str, source: str = "figures") -> Result:
        paths = [str(tmp_path / name) for name in names]
        options = ("--pipeline", str(tmp_path / "figures.toml"), "--load", source, "--json")
        return CliRunner().invoke(app, ("validate", *paths, *options))

    return call


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_valid_files_are_put_into_the_inbox_and_others_are_not(tmp_path: Path, inbox: Path, load: Load) -> None:
    (tmp_path / "good.csv").write_bytes(GOOD)
    (tmp_path / "bad.csv").write_bytes(BAD)

    result = load("good.csv", "bad.csv")

    assert result.exit_code == 1, result.output
    assert {path.name: path.read_bytes() for path in (inbox / "figures").iterdir()} == {"good.csv": GOOD}
    assert list(inbox.parent.iterdir()) == [inbox]
    report = msgspec.json.decode(result.stdout)
    assert (report["loaded_source"], report["files_loaded"]) == ("figures", 1)
    assert {file["name"]: file["loaded"] for file in report["files"]} == {"good.csv": True, "bad.csv": False}
    assert (tmp_path / "good.csv").read_bytes() == GOOD


def test_a_file_is_loaded_only_for_a_source_of_the_pipeline(tmp_path: Path, inbox: Path, load: Load) -> None:
    (tmp_path / "good.csv").write_bytes(GOOD)

    assert load("good.csv", source="others").exit_code == 2
    assert list(inbox.iterdir()) == []


def test_a_file_in_the_inbox_is_never_replaced(tmp_path: Path, inbox: Path, load: Load) -> None:
    (inbox / "figures").mkdir()
    (inbox / "figures" / "good.csv").write_bytes(b"waits")
    (tmp_path / "good.csv").write_bytes(GOOD)

    result = load("good.csv")

    assert result.exit_code == 1
    assert "holds a file of this name" in " ".join(result.stderr.split())
    assert (inbox / "figures" / "good.csv").read_bytes() == b"waits"
    assert msgspec.json.decode(result.stdout)["files_loaded"] == 0


def test_a_file_that_changed_since_it_was_validated_is_not_put_there(tmp_path: Path, inbox: Path) -> None:
    path = tmp_path / "good.csv"
    path.write_bytes(GOOD)

    with pytest.raises(InboxError, match="changed after it was validated"):
        put_into_inbox(path, inbox, "figures", digest(BAD))

    assert list((inbox / "figures").iterdir()) == []
    assert list(inbox.parent.iterdir()) == [inbox]


def test_a_hidden_file_is_not_put_where_nobody_would_read_it(tmp_path: Path, inbox: Path) -> None:
    path = tmp_path / ".good.csv"
    path.write_bytes(GOOD)

    with pytest.raises(InboxError, match="is hidden"):
        put_into_inbox(path, inbox, "figures", digest(GOOD))

    assert list(inbox.iterdir()) == []


def test_a_file_appears_whole(tmp_path: Path, inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it has its name nothing of it stands in the folder that is watched."""
    path = tmp_path / "good.csv"
    path.write_bytes(GOOD)
    seen: list[tuple[list[Path], bytes]] = []
    link = os.link

    def watched(unfinished: Path, to: Path) -> None:
        seen.append((list((inbox / "figures").iterdir()), unfinished.read_bytes()))
        link(unfinished, to)

    monkeypatch.setattr(os, "link", watched)
    put_into_inbox(path, inbox, "figures", digest(GOOD))

    assert seen == [([], GOOD)]
    assert (inbox / "figures" / "good.csv").read_bytes() == GOOD


@pytest.mark.parametrize("taken", [False, True])
def test_a_file_system_without_links_gets_it_too(
    tmp_path: Path, inbox: Path, monkeypatch: pytest.MonkeyPatch, *, taken: bool
) -> None:
    def refuse(*_: Path) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "good.csv"
    path.write_bytes(GOOD)
    if taken:
        (inbox / "figures").mkdir()
        (inbox / "figures" / "good.csv").write_bytes(b"waits")
        with pytest.raises(InboxError, match="holds a file"):
            put_into_inbox(path, inbox, "figures", digest(GOOD))
    else:
        put_into_inbox(path, inbox, "figures", digest(GOOD))

    assert (inbox / "figures" / "good.csv").read_bytes() == (b"waits" if taken else GOOD)
    assert list(inbox.parent.iterdir()) == [inbox]


def test_without_a_stack_nothing_is_validated_for_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETLPAY_ROOT", str(tmp_path))
    (tmp_path / "figures.toml").write_text(PIPELINE)
    (tmp_path / "good.csv").write_bytes(GOOD)
    options = ("--pipeline", str(tmp_path / "figures.toml"), "--load", "figures")

    result = CliRunner().invoke(app, ("validate", str(tmp_path / "good.csv"), *options))

    assert result.exit_code == 5
    assert "is not up" in result.stderr
