"""`etlpay keys`: a key is shown once, kept as its hash, exchanged and revoked."""

import stat
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from etlpay_cli.__main__ import app
from shared.auth.keys import KEYS_FILE, hash_key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def run(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments, "--file", str(path)])


def create(path: Path, name: str = "shop") -> str:
    result = run(path, "create", "--name", name, "--source", f"{name}*", "--source", "other")
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def test_a_new_key_is_printed_alone_and_only_its_hash_is_kept(path: Path) -> None:
    key = create(path)

    assert key.startswith("etlp_")
    assert "\n" not in key
    assert key not in path.read_text(encoding="utf-8")
    [kept] = KEYS_FILE.read(path)
    assert (kept.name, kept.sha256, kept.sources) == ("shop", hash_key(key), ("shop*", "other"))


def test_a_new_file_is_for_its_owner_only_and_another_keeps_its_mode(path: Path) -> None:
    create(path)
    first = stat.S_IMODE(path.stat().st_mode)
    path.chmod(0o640)
    create(path)

    assert (first, stat.S_IMODE(path.stat().st_mode)) == (0o600, 0o640)
    assert list(path.parent.iterdir()) == [path]


def test_a_third_key_of_a_name_is_refused_and_nothing_is_written(path: Path) -> None:
    create(path)
    create(path)
    before = path.read_bytes()

    result = run(path, "create", "--name", "shop", "--source", "shop*")

    assert (result.exit_code, result.stdout) == (2, "")
    assert path.read_bytes() == before


def test_an_exchange_leaves_the_newest_key(path: Path) -> None:
    create(path)
    text = path.read_text(encoding="utf-8").replace("created = 20", "created = 19")
    path.write_text(text, encoding="utf-8")
    new = create(path)
    other = create(path, "bank")

    assert run(path, "revoke", "--name", "shop", "--keep-newest").exit_code == 0

    assert [key.sha256 for key in KEYS_FILE.read(path)] == [hash_key(new), hash_key(other)]


def test_revoking_takes_every_key_of_the_name(path: Path) -> None:
    create(path)
    create(path)
    create(path, "bank")

    assert run(path, "revoke", "--name", "shop").exit_code == 0
    assert run(path, "revoke", "--name", "shop").exit_code == 1

    assert [key.name for key in KEYS_FILE.read(path)] == ["bank"]


def test_the_list_shows_names_and_sources_and_no_hash(path: Path) -> None:
    key = create(path)

    result = run(path, "list")

    assert "shop" in result.stdout
    assert "shop*" in result.stdout
    assert hash_key(key)[:8] not in result.stdout


@pytest.mark.parametrize("arguments", [("--name", "Shop", "--source", "*"), ("--name", "shop", "--source", "a*b")])
def test_what_cannot_be_a_name_or_a_source_is_refused(path: Path, arguments: tuple[str, ...]) -> None:
    result = run(path, "create", *arguments)

    assert (result.exit_code, result.stdout, path.exists()) == (2, "", False)


def test_a_file_that_cannot_be_read_is_not_overwritten(path: Path) -> None:
    path.write_text("mine", encoding="utf-8")

    result = run(path, "create", "--name", "shop", "--source", "*")

    assert (result.exit_code, path.read_text(encoding="utf-8")) == (1, "mine")


def test_without_a_file_the_command_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ETLPAY_API_KEYS_FILE", raising=False)

    result = CliRunner().invoke(app, ["keys", "list"])

    assert result.exit_code == 2


def test_a_new_key_may_send_and_read_what_is_its_own_and_is_for_ever(path: Path) -> None:
    create(path)

    [kept] = KEYS_FILE.read(path)
    assert (kept.may, kept.expires) == (("send", "read"), None)


def test_a_key_is_made_for_what_is_asked_and_for_as_long(path: Path) -> None:
    result = run(path, "create", "--name", "shop", "--source", "*", "--may", "send, audit", "--expires", "90d")

    [kept] = KEYS_FILE.read(path)
    assert result.exit_code == 0
    assert kept.may == ("send", "audit")
    assert kept.expires == kept.created + timedelta(days=90)


@pytest.mark.parametrize(
    "arguments", [("--may", "write"), ("--may", ""), ("--expires", "soon"), ("--expires", "9999d")]
)
def test_a_right_or_a_time_that_is_none_is_refused(path: Path, arguments: tuple[str, ...]) -> None:
    result = run(path, "create", "--name", "shop", "--source", "*", *arguments)

    assert (result.exit_code, result.stdout, path.exists()) == (2, "", False)


@pytest.mark.parametrize(
    "source", ['a "quoted" one', "back\\slash", "ACME GmbH", "/billing/eu?x=1#y", "zażółć 💶", "[[keys]]"]
)
def test_a_source_of_any_printable_characters_is_kept_as_it_is(path: Path, source: str) -> None:
    run(path, "create", "--name", "shop", "--source", source, "--source", f"{source}*")

    [kept] = KEYS_FILE.read(path)
    assert kept.sources == (source, f"{source}*")
    assert source in run(path, "list").stdout


def test_the_list_warns_of_keys_that_expire(path: Path) -> None:
    create(path)
    run(path, "create", "--name", "soon", "--source", "*", "--expires", "13d")
    run(path, "create", "--name", "later", "--source", "*", "--expires", "15d")
    run(path, "create", "--name", "over", "--source", "*", "--expires", "0m")

    result = run(path, "list")

    warnings = [line for line in result.stderr.splitlines() if line.startswith("warning")]
    assert warnings == [
        "warning: a key of soon expires within 13 days",
        "warning: a key of over has expired, and is refused",
    ]
    assert "never" in result.stdout


def test_what_was_written_by_hand_stays_as_it_was_meant(path: Path) -> None:
    """A file of before says neither what keys may do nor until when they are valid."""
    block = f'[[keys]]\nname = "old"\nsha256 = "{"a" * 64}"\nsources = ["*"]\ncreated = 2026-11-23T08:00:00Z\n'
    path.write_text(block, encoding="utf-8")
    before = KEYS_FILE.read(path)

    create(path)

    assert KEYS_FILE.read(path)[:1] == before
