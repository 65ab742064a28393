"""Keys are asked for, scoped, exchanged without a restart and never shown; rates hold on average."""

import hashlib
import os
from pathlib import Path

import pytest

from shared.auth.authenticator import Access, Caller, UnauthenticatedError, is_loopback, open_access
from shared.auth.keys import KEYS_FILE, ApiKey, generate_key, hash_key
from shared.auth.rate import Bucket, RateExceededError
from shared.auth.scopes import OutOfScopeError
from shared.contracts.errors import FatalError
from shared.settings import AccessSettings
from support.keys import FakeClock, WriteKeys, bearer

KEY, OTHER = generate_key(), generate_key()


def test_a_key_is_256_random_bits_and_only_its_hash_is_kept() -> None:
    assert len({generate_key() for _ in range(100)}) == 100
    assert len(KEY.removeprefix("etlp_")) == 43
    assert hash_key(KEY) == hashlib.sha256(KEY.encode()).hexdigest()


def test_a_known_key_is_its_caller(write_keys: WriteKeys) -> None:
    access = Access(write_keys((KEY, "shop", "shop*"), (OTHER, "bank", "bank")))

    assert [access.admit(bearer(KEY)).name, access.admit(f"bearer  {OTHER} ").name] == ["shop", "bank"]


@pytest.mark.parametrize(
    "credentials",
    [
        None,
        "",
        KEY,
        "Bearer",
        "Bearer ",
        f"Basic {KEY}",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY.upper()}",
        f"Bearer {KEY}, Bearer {KEY}",
        f"Bearer {generate_key()}",
        "Bearer etlp_\udc80",
        "Bearer etlp_" + "a" * 100_000,
    ],
)
def test_what_is_not_a_known_key_is_refused(write_keys: WriteKeys, credentials: str | None) -> None:
    access = Access(write_keys((KEY, "shop", "shop*")))

    with pytest.raises(UnauthenticatedError):
        access.admit(credentials)


def test_the_hash_of_nothing_lets_nobody_in(write_keys: WriteKeys) -> None:
    access = Access(write_keys(("", "empty", "*")))

    for credentials in (None, "", "Bearer "):
        with pytest.raises(UnauthenticatedError):
            access.admit(credentials)


def test_an_empty_list_of_keys_lets_nobody_in(write_keys: WriteKeys) -> None:
    access = Access(write_keys())

    with pytest.raises(UnauthenticatedError):
        access.admit(bearer(KEY))


def test_without_a_file_of_keys_everybody_is_let_in_for_every_source() -> None:
    caller = Access(None).admit(None)

    caller.check_source("anything")
    caller.spend(1_000_000)


@pytest.mark.parametrize(
    ("scope", "source", "allowed"),
    [
        ("shop", "shop", True),
        ("shop", "shop-1", False),
        ("shop*", "shop", True),
        ("shop*", "shop-1", True),
        ("shop*", "sho", False),
        ("shop*", "Shop", False),
        ("*", "anything", True),
        ("shop*", "shop*", True),
    ],
)
def test_a_scope_is_an_exact_name_or_a_beginning(
    write_keys: WriteKeys, scope: str, source: str, *, allowed: bool
) -> None:
    caller = Access(write_keys((KEY, "shop", scope))).admit(bearer(KEY))

    if allowed:
        caller.check_source(source)
    else:
        with pytest.raises(OutOfScopeError) as refusal:
            caller.check_source(source)
        assert source not in str(refusal.value)
        assert scope not in str(refusal.value)


def test_two_keys_of_a_name_are_valid_while_they_are_exchanged(write_keys: WriteKeys, clock: FakeClock) -> None:
    path = write_keys((KEY, "shop", "shop*"), (OTHER, "shop", "shop*"))
    access = Access(path, clock=clock)
    assert [access.admit(bearer(key)).name for key in (KEY, OTHER)] == ["shop", "shop"]

    write_keys((OTHER, "shop", "shop*"))
    clock.now += 1

    assert access.admit(bearer(OTHER)).name == "shop"
    with pytest.raises(UnauthenticatedError):
        access.admit(bearer(KEY))


def test_the_file_is_looked_at_once_a_second_at_most(write_keys: WriteKeys, clock: FakeClock) -> None:
    access = Access(write_keys((KEY, "shop", "shop*")), clock=clock)
    write_keys()
    clock.now += 0.9

    assert access.admit(bearer(KEY)).name == "shop"

    clock.now += 0.2
    with pytest.raises(UnauthenticatedError):
        access.admit(bearer(KEY))


def test_a_change_that_keeps_size_and_time_is_seen_where_the_file_was_replaced(
    write_keys: WriteKeys, clock: FakeClock
) -> None:
    path = write_keys((KEY, "shop", "shop*"))
    access = Access(path, clock=clock)
    before = path.stat()

    write_keys((OTHER, "shop", "shop*"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    clock.now += 1

    assert access.admit(bearer(OTHER)).name == "shop"


def test_what_a_key_is_kept_as_does_not_hold_it(write_keys: WriteKeys) -> None:
    [kept] = KEYS_FILE.read(write_keys((KEY, "shop", "shop*")))

    assert isinstance(kept, ApiKey)
    assert KEY not in repr(kept)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_on_this_machine_no_keys_are_needed(host: str) -> None:
    assert is_loopback(host)
    assert not open_access(AccessSettings(), host=host, host_setting="ETLPAY_HTTP_HOST").asks_for_keys


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "", "192.168.0.1", "gateway", "localhost.example.com"])  # noqa: S104 - what must be refused
def test_beyond_this_machine_a_service_without_keys_does_not_start(host: str, write_keys: WriteKeys) -> None:
    with pytest.raises(FatalError, match=r"ETLPAY_HTTP_HOST.*ETLPAY_API_KEYS_FILE.*ETLPAY_ALLOW_ANONYMOUS"):
        open_access(AccessSettings(), host=host, host_setting="ETLPAY_HTTP_HOST")

    path = str(write_keys((KEY, "shop", "shop*")))
    assert open_access(AccessSettings(api_keys_file=path), host=host, host_setting="").asks_for_keys
    assert not open_access(AccessSettings(allow_anonymous=True), host=host, host_setting="").asks_for_keys


def test_a_service_whose_file_of_keys_is_missing_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="FileNotFoundError"):
        open_access(AccessSettings(api_keys_file=str(tmp_path / "keys.toml")), host="127.0.0.1", host_setting="")


def test_a_rate_holds_on_average_however_large_the_requests(clock: FakeClock) -> None:
    bucket = Bucket(10, clock)
    taken = 0
    for _ in range(1_000):
        clock.now += 0.1
        try:
            bucket.spend(7)
        except RateExceededError:
            continue
        taken += 7

    assert taken == pytest.approx(100 * 10, abs=10 + 7)


def test_one_request_may_overdraw_and_the_next_waits_for_it(clock: FakeClock) -> None:
    bucket = Bucket(10, clock)
    bucket.spend(1_010)

    with pytest.raises(RateExceededError) as refusal:
        bucket.spend(1)

    assert refusal.value.retry_after_seconds == 100
    clock.now += 99.9
    with pytest.raises(RateExceededError):
        bucket.spend(1)
    clock.now += 0.2
    bucket.spend(1)


def test_both_keys_of_a_name_share_its_rate_and_reading_again_refills_nothing(
    write_keys: WriteKeys, clock: FakeClock
) -> None:
    access = Access(write_keys((KEY, "shop", "*"), (OTHER, "shop", "*")), rate=0.1, clock=clock)
    access.admit(bearer(KEY)).spend(1)

    write_keys((OTHER, "shop", "*"))
    clock.now += 1

    with pytest.raises(RateExceededError):
        _spend_until_refused(access.admit(bearer(OTHER)), times=2)


def _spend_until_refused(caller: Caller, *, times: int) -> None:
    for _ in range(times):
        caller.spend(1)


def test_every_name_has_a_rate_of_its_own(write_keys: WriteKeys, clock: FakeClock) -> None:
    access = Access(write_keys((KEY, "shop", "*"), (OTHER, "bank", "*")), rate=1, clock=clock)
    access.admit(bearer(KEY)).spend(5)

    access.admit(bearer(OTHER)).spend(5)
