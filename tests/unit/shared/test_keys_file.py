"""The file of keys: what it may hold, how it is read again, and how long keys count that cannot be."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from shared.auth.authenticator import Access, UnauthenticatedError, open_access
from shared.auth.files import AccessFileError
from shared.auth.keys import KEYS_FILE, generate_key, hash_key
from shared.auth.scopes import OutOfScopeError, RightMissingError
from shared.contracts.errors import UnavailableError
from shared.settings import AccessSettings
from support.keys import FakeClock, WriteKeys, bearer

KEY, OTHER = generate_key(), generate_key()
BROKEN = pytest.mark.parametrize("broken", [b"[[keys]]\nname =", b"\xff\xfe", None])
MOMENT = datetime(2026, 11, 23, 8, tzinfo=UTC)


@pytest.fixture(autouse=True)
def every_level() -> None:
    """Let lines of every level through, whatever an earlier test has set."""
    structlog.reset_defaults()


def break_file(path: Path, broken: bytes | None) -> None:
    """Delete the file, or leave something in its place."""
    if broken is None:
        path.unlink()
    else:
        path.write_bytes(broken)


def stale_seconds() -> float | None:
    return REGISTRY.get_sample_value("etlpay_api_keys_stale_seconds")


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("etlpay_access_refused_total", {"reason": reason}) or 0


@BROKEN
def test_a_file_that_breaks_changes_nothing_and_is_told_once(
    write_keys: WriteKeys, clock: FakeClock, broken: bytes | None
) -> None:
    path = write_keys((KEY, "shop", "shop*"))
    access = Access(path, clock=clock)
    break_file(path, broken)

    with capture_logs() as logs:
        for _ in range(3):
            clock.now += 1
            assert access.admit(bearer(KEY)).name == "shop"
        write_keys((OTHER, "shop", "shop*"))
        clock.now += 1
        assert access.admit(bearer(OTHER)).name == "shop"

    assert [entry["log_level"] for entry in logs] == ["error", "info"]
    assert not any(secret in str(logs) for secret in (KEY, OTHER, hash_key(KEY), hash_key(OTHER)))


def test_a_file_that_can_be_read_again_without_having_changed_is_read(
    write_keys: WriteKeys, clock: FakeClock, tmp_path: Path
) -> None:
    """Such as one whose permissions were put right: that changes neither its content nor its time."""
    path = write_keys((KEY, "shop", "shop*"))
    access = Access(path, clock=clock)
    new = write_keys((OTHER, "shop", "shop*"))
    new.rename(tmp_path / "aside")
    path.symlink_to(path)
    clock.now += 1
    assert access.admit(bearer(KEY)).name == "shop"

    (tmp_path / "aside").rename(path)
    clock.now += 1

    assert access.admit(bearer(OTHER)).name == "shop"


def key_block(**members: str) -> str:
    block = {
        "name": '"shop"',
        "sha256": f'"{hash_key(KEY)}"',
        "sources": '["shop*"]',
        "created": "2026-11-23T08:00:00Z",
    }
    return "[[keys]]\n" + "".join(f"{name} = {value}\n" for name, value in (block | members).items())


@pytest.mark.parametrize(
    "content",
    [
        key_block(name='"Shop"'),
        key_block(name='"shop\\n"'),
        key_block(sha256=f'"{KEY}"'),
        key_block(sha256=f'"{hash_key(KEY).upper()}"'),
        key_block(sources="[]"),
        key_block(sources='["a*b"]'),
        key_block(sources='[""]'),
        key_block(created='"yesterday"'),
        key_block(expires="2026-11-23T08:00:00"),
        key_block(expires='"soon"'),
        key_block(may="[]"),
        key_block(may='["write"]'),
        key_block(may='"send"'),
        key_block(forever="true"),
        key_block() + key_block(name='"other"'),
        key_block() + key_block(sha256=f'"{"a" * 64}"') + key_block(sha256=f'"{"b" * 64}"'),
        "keys = 1",
        "no TOML",
    ],
)
def test_a_file_that_cannot_be_used_is_refused_and_not_repeated(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(AccessFileError) as refusal:
        KEYS_FILE.read(path)

    assert KEY not in str(refusal.value)
    assert hash_key(KEY) not in str(refusal.value)


@BROKEN
def test_keys_that_cannot_be_read_again_count_for_a_bounded_time(
    write_keys: WriteKeys, clock: FakeClock, broken: bytes | None
) -> None:
    """A slip of the pen while a key is revoked must not leave it valid without end."""
    path = write_keys((KEY, "shop", "shop*"))
    access = Access(path, stale_seconds=60, clock=clock)
    break_file(path, broken)

    clock.now += 59
    assert access.admit(bearer(KEY)).name == "shop"
    clock.now += 1
    with pytest.raises(UnavailableError):
        access.admit(bearer(KEY))
    with pytest.raises(UnavailableError):
        access.admit(None)

    write_keys((OTHER, "shop", "shop*"))
    clock.now += 1
    assert access.admit(bearer(OTHER)).name == "shop"
    with pytest.raises(UnauthenticatedError):
        access.admit(bearer(KEY))


def test_keys_are_stale_as_told_and_the_same_file_makes_them_good_again(
    write_keys: WriteKeys, clock: FakeClock, tmp_path: Path
) -> None:
    path = write_keys((KEY, "shop", "shop*"))
    access = Access(path, stale_seconds=60, clock=clock)
    path.rename(tmp_path / "aside")

    with capture_logs() as logs:
        states = []
        for _ in range(4):
            clock.now += 30
            states.append((access.look(), stale_seconds()))
        (tmp_path / "aside").rename(path)
        clock.now += 1
        states.append((access.look(), stale_seconds()))

    assert states == [(True, 30), (False, 60), (False, 90), (False, 120), (True, 0)]
    assert [entry["log_level"] for entry in logs] == ["error", "error", "info"]


def test_keys_that_nobody_may_read_any_more_go_stale(write_keys: WriteKeys, clock: FakeClock) -> None:
    """That changes neither the file's content nor the time of its change."""
    path = write_keys((KEY, "shop", "shop*"))
    access = Access(path, stale_seconds=60, clock=clock)
    path.chmod(0o000)
    unreadable = not _readable(path)
    for _ in range(61):
        clock.now += 1
        usable = access.look()

    assert usable is not unreadable


def _readable(path: Path) -> bool:
    """Tell whether this user may read the file: root may always."""
    try:
        path.read_bytes()
    except PermissionError:
        return False
    return True


def test_the_setting_says_how_long(write_keys: WriteKeys, clock: FakeClock) -> None:
    path = write_keys((KEY, "shop", "shop*"))
    settings = AccessSettings(api_keys_file=str(path), api_keys_stale_seconds=5)
    access = open_access(settings, host="127.0.0.1", host_setting="", clock=clock)
    path.unlink()

    clock.now += 4
    before = access.look()
    clock.now += 1

    assert (before, access.look()) == (True, False)


def test_a_key_is_refused_from_the_moment_on_at_which_it_expires(write_keys: WriteKeys) -> None:
    times = [MOMENT - timedelta(microseconds=1), MOMENT]
    path = write_keys((KEY, "shop", "*"), expires="2026-11-23T08:00:00Z")
    access = Access(path, wall_clock=lambda: times.pop(0))

    assert access.admit(bearer(KEY)).name == "shop"
    with pytest.raises(UnauthenticatedError):
        access.admit(bearer(KEY))


def test_a_key_that_does_not_say_what_it_may_may_do_what_it_could_before(write_keys: WriteKeys) -> None:
    [key] = KEYS_FILE.read(write_keys((KEY, "shop", "*")))

    assert (key.may, key.expires) == (("send", "read", "audit"), None)


def test_a_key_may_do_only_what_it_says(write_keys: WriteKeys) -> None:
    caller = Access(write_keys((KEY, "shop", "*"), may='["send"]')).admit(bearer(KEY))

    caller.check_right("send")
    for right in ("read", "audit"):
        with pytest.raises(RightMissingError):
            caller.check_right(right)


def test_what_is_refused_is_counted_by_reason(write_keys: WriteKeys, clock: FakeClock) -> None:
    path = write_keys((KEY, "shop", "shop*"), may='["send"]', expires="2026-11-23T08:00:00Z")
    times = [MOMENT - timedelta(days=1), MOMENT]
    access = Access(path, clock=clock, wall_clock=lambda: times.pop(0))
    before = {reason: refused(reason) for reason in ("missing", "unknown", "expired", "right", "source", "stale")}
    caller = access.admit(bearer(KEY))

    with pytest.raises(OutOfScopeError):
        caller.check_source("bank")
    with pytest.raises(RightMissingError):
        caller.check_right("read")
    for credentials in (None, bearer(OTHER), bearer(KEY)):
        with pytest.raises(UnauthenticatedError):
            access.admit(credentials)
    path.unlink()
    clock.now += 61
    with pytest.raises(UnavailableError):
        access.admit(bearer(KEY))

    assert {reason: refused(reason) - count for reason, count in before.items()} == dict.fromkeys(before, 1)


def test_a_flood_of_wrong_keys_is_a_line_in_ten_seconds(write_keys: WriteKeys, clock: FakeClock) -> None:
    access = Access(write_keys((KEY, "shop", "shop*")), clock=clock)

    with capture_logs() as logs:
        for number in range(1_000):
            with pytest.raises(UnauthenticatedError):
                access.admit(bearer(f"{OTHER}{number}"))
        with pytest.raises(OutOfScopeError):
            access.admit(bearer(KEY)).check_source("bank")
        clock.now += 10
        access.look()
        clock.now += 10
        access.look()

    assert [(entry["log_level"], entry["reasons"], entry["key_names"]) for entry in logs] == [
        ("warning", {"unknown": 1}, []),
        ("warning", {"unknown": 999, "source": 1}, ["shop"]),
    ]
    assert OTHER not in str(logs)


def test_a_file_that_is_too_large_is_refused_instead_of_being_read_in_part(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(key_block() + "#" * (4 * 1024 * 1024), encoding="utf-8")

    with pytest.raises(AccessFileError, match="larger"):
        KEYS_FILE.read(path)
