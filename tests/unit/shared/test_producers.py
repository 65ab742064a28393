"""Producers are bound to sources by a file that is read again, and in doubt nobody is bound to nothing."""

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shared.auth.files import AccessFileError
from shared.auth.producers import PRODUCERS_FILE, Producers

SHOP = """
[[producers]]
name = "shop"
user = "producer-shop"
sources = ["shop", "acme*", 'a"b\\c']
created = 2026-11-27T00:00:00Z
"""
BANK = SHOP.replace("shop", "bank")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    written = tmp_path / "producers.toml"
    written.write_text(SHOP, encoding="utf-8")
    return written


@pytest.mark.parametrize(
    ("user", "source", "allowed"),
    [
        ("producer-shop", "shop", True),
        ("producer-shop", "shop ", False),
        ("producer-shop", "Shop", False),
        ("producer-shop", "acme", True),
        ("producer-shop", "acme/eu", True),
        ("producer-shop", "acm", False),
        ("producer-shop", 'a"b\\c', True),
        ("producer-bank", "shop", False),
        ("shop", "shop", False),
        ("", "shop", False),
    ],
)
def test_a_user_names_its_own_sources_only(path: Path, user: str, source: str, *, allowed: bool) -> None:
    problem = Producers(path).problem(user, source)

    assert (problem is None) is allowed
    assert problem is None or not {user, source} & {*problem.split()} - {""}


def test_without_producers_everybody_names_every_source(path: Path) -> None:
    path.write_text("# nobody\n", encoding="utf-8")

    assert Producers(path).problem("", "any") is None


def test_a_change_counts_when_it_is_looked_at(path: Path) -> None:
    producers = Producers(path)
    before = path.stat()
    path.with_suffix(".new").write_text(BANK, encoding="utf-8")
    path.with_suffix(".new").replace(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    producers.look()

    assert producers.problem("producer-bank", "bank") is None
    assert producers.problem("producer-shop", "shop") is not None


@pytest.mark.parametrize("broken", ["[[producers]]\nname =", SHOP + SHOP, None])
def test_a_file_that_breaks_is_told_once_and_nobody_counts_until_it_is_whole(path: Path, broken: str | None) -> None:
    producers = Producers(path)
    if broken is None:
        path.unlink()
    else:
        path.write_text(broken, encoding="utf-8")

    with capture_logs() as logs:
        for _ in range(3):
            producers.look()
        unreadable = producers.is_readable
        path.write_text(SHOP, encoding="utf-8")
        producers.look()

    assert (unreadable, producers.is_readable) == (False, True)
    assert [entry["log_level"] for entry in logs if entry["log_level"] != "info"] == ["error"]
    assert producers.problem("producer-shop", "shop") is None


@pytest.mark.parametrize(
    "content",
    [
        "mine",
        "\x00",
        "[[producer]]",
        SHOP.replace('"shop"', '"Shop"', 1),
        SHOP.replace('"shop", ', '"", '),
        SHOP.replace('"shop", ', '"a\\u0000b", '),
        SHOP.replace('sources = ["shop", "acme*", \'a"b\\c\']', "sources = []"),
        SHOP + BANK.replace("producer-bank", "producer-shop"),
        SHOP + BANK.replace('name = "bank"', 'name = "shop"'),
        SHOP + 'password = "secret"\n',
    ],
)
def test_a_file_that_is_none_is_refused_without_what_it_holds(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")

    with pytest.raises(AccessFileError) as refusal:
        PRODUCERS_FILE.read(path)

    assert "producer-" not in str(refusal.value)


def test_a_file_that_is_back_unchanged_counts_again(tmp_path: Path) -> None:
    folder, away = tmp_path / "secrets", tmp_path / "away"
    folder.mkdir()
    (folder / "producers.toml").write_text(SHOP, encoding="utf-8")
    producers = Producers(folder / "producers.toml")

    folder.rename(away)
    producers.look()
    unreadable = producers.is_readable
    away.rename(folder)
    producers.look()

    assert (unreadable, producers.is_readable) == (False, True)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AccessFileError):
        Producers(tmp_path / "none.toml")
