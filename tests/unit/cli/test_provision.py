"""Secrets are generated once, are private, and the broker's definitions follow from them."""

import base64
import hashlib
import re
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from etlpay_cli.provision import (
    BROKER_USERS,
    CACHE_CONFIG_PLACE,
    DEFINITIONS_PLACE,
    INGEST_VHOST,
    PRIVATE,
    PRODUCER_PREFIX,
    PRODUCERS_PLACE,
    PUBLIC_VHOST,
    SECRET_PLACES,
    VOLUME,
    Modes,
    definitions,
    hash_password,
    provision,
    replace_file,
    with_producer,
    without_producer,
)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def read_definitions(root: Path) -> dict[str, Any]:
    read: dict[str, Any] = msgspec.json.decode((root / DEFINITIONS_PLACE).read_bytes())
    return read


def test_every_secret_is_in_each_of_its_places_and_nowhere_else(tmp_path: Path) -> None:
    provision(tmp_path, PRIVATE)

    written = contents(tmp_path)
    places = {place for places in SECRET_PLACES.values() for place in places}
    assert places | {DEFINITIONS_PLACE, CACHE_CONFIG_PLACE, PRODUCERS_PLACE} == set(written)
    values = [{written[place] for place in places} for places in SECRET_PLACES.values()]
    assert all(len(value) == 1 for value in values)
    assert len(SECRET_PLACES) == len(set.union(*values)), "two secrets are the same"


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    provision(tmp_path, VOLUME)
    before = contents(tmp_path)
    moments = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    provision(tmp_path, VOLUME)

    assert before == contents(tmp_path)
    assert moments == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_an_interrupted_run_is_completed_with_the_secrets_it_left(tmp_path: Path) -> None:
    provision(tmp_path, PRIVATE)
    before = contents(tmp_path)
    (tmp_path / "processor/postgres_password").unlink()
    (tmp_path / "operator/reader_password").unlink()

    provision(tmp_path, PRIVATE)

    assert before == contents(tmp_path)


def test_a_stack_of_before_gets_the_secrets_that_it_lacks_and_keeps_its_own(tmp_path: Path) -> None:
    """The folders of the release before had none for the cache, no tokens and no key."""
    provision(tmp_path, PRIVATE)
    for place in contents(tmp_path):
        if place.startswith("redis/") or place.endswith(("_token", "/redis_password", "/cache_key")):
            (tmp_path / place).unlink()
    (tmp_path / "redis").rmdir()
    before = contents(tmp_path)

    provision(tmp_path, PRIVATE)

    after = contents(tmp_path)
    assert before.items() <= after.items()
    assert {place for places in SECRET_PLACES.values() for place in places} <= set(after)


def test_a_stack_without_pipelines_gets_their_secrets_and_keeps_a_mask_key_that_it_has(tmp_path: Path) -> None:
    provision(tmp_path, PRIVATE)
    for name in ("postgres_password", "mask_key"):
        (tmp_path / "pipelines" / name).unlink()
    (tmp_path / "pipelines").rmdir()
    (tmp_path / "migrate/pipelines_password").unlink()
    key = (tmp_path / "processor/mask_key").read_bytes()

    provision(tmp_path, PRIVATE)

    written = contents(tmp_path)
    assert written["pipelines/postgres_password"] == written["migrate/pipelines_password"]
    assert written["pipelines/mask_key"] == written["processor/mask_key"] == key


def test_each_caller_of_the_processor_has_a_token_that_only_the_two_know(tmp_path: Path) -> None:
    provision(tmp_path, PRIVATE)

    written = contents(tmp_path)
    for caller in ("api-gateway", "grpc-ingest", "operator"):
        token = written[f"{caller}/processor_token"]
        known = f"processor/{caller.replace('-', '_')}_token"
        assert {place for place, content in written.items() if content == token} == {f"{caller}/processor_token", known}


def test_the_caches_server_learns_its_password_and_not_what_entries_are_signed_with(tmp_path: Path) -> None:
    provision(tmp_path, PRIVATE)
    (tmp_path / "redis/redis_password").write_text("another")
    for folder in ("api-gateway", "processor", "operator"):
        (tmp_path / folder / "redis_password").unlink()

    provision(tmp_path, PRIVATE)

    written = contents(tmp_path)
    assert written[CACHE_CONFIG_PLACE] == b"requirepass another\n"
    assert written["processor/redis_password"] == b"another"
    key = written["processor/cache_key"]
    assert [place for place, content in written.items() if place.startswith("redis/") and key in content] == []


def test_a_broker_user_whose_password_is_new_gets_a_new_hash_and_the_others_keep_theirs(tmp_path: Path) -> None:
    provision(tmp_path, PRIVATE)
    before = {user["name"]: user["password_hash"] for user in read_definitions(tmp_path)["users"]}
    (tmp_path / "processor/amqp_password").unlink()

    provision(tmp_path, PRIVATE)

    after = {user["name"]: user["password_hash"] for user in read_definitions(tmp_path)["users"]}
    assert {"processor"} == {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize(("modes", "folder", "file"), [(PRIVATE, 0o700, 0o600), (VOLUME, 0o755, 0o444)])
def test_what_is_written_has_the_modes_of_its_place(tmp_path: Path, modes: Modes, folder: int, file: int) -> None:
    provision(tmp_path, modes)

    found = {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in tmp_path.rglob("*")}
    assert {(True, folder), (False, file)} == found


def test_a_volume_that_is_mounted_keeps_its_mode(tmp_path: Path) -> None:
    mounted = tmp_path / "processor"
    mounted.mkdir(mode=0o750)

    provision(tmp_path, VOLUME)

    assert stat.S_IMODE(mounted.stat().st_mode) == 0o750


def test_the_hash_is_salt_then_sha256_of_salt_and_password() -> None:
    decoded = base64.b64decode(hash_password("secret", b"salt"))

    assert b"salt" + hashlib.sha256(b"saltsecret").digest() == decoded


def test_the_definitions_name_every_user_once_and_hold_no_password() -> None:
    passwords = {user: f"password-of-{user}" for user in BROKER_USERS}

    made = definitions(passwords)

    assert list(BROKER_USERS) == [user["name"] for user in made["users"]]
    assert [(user, vhost) for user, vhosts in BROKER_USERS.items() for vhost in vhosts] == [
        (permission["user"], permission["vhost"]) for permission in made["permissions"]
    ]
    assert {permission["vhost"] for permission in made["permissions"]} == {vhost["name"] for vhost in made["vhosts"]}
    assert b"password-of-" not in msgspec.json.encode(made)


def test_a_producer_can_do_what_the_shared_one_can_and_outlasts_a_start(tmp_path: Path) -> None:
    provision(tmp_path, PRIVATE)
    before = read_definitions(tmp_path)
    made = with_producer(before, f"{PRODUCER_PREFIX}shop", "secret")
    replace_file(tmp_path, DEFINITIONS_PLACE, msgspec.json.encode(made).decode(), PRIVATE)

    provision(tmp_path, PRIVATE)

    after = read_definitions(tmp_path)
    [shop] = [user for user in after["users"] if user["name"] == "producer-shop"]
    assert hash_password("secret", base64.b64decode(shop["password_hash"])[:4]) == shop["password_hash"]
    assert shop["tags"] == []
    assert rights(after, "producer-shop") == rights(after, "producer")
    assert before == without_producer(after, "producer-shop")
    assert b"secret" not in msgspec.json.encode(after)


def test_a_producer_that_is_made_again_has_its_new_password_only(tmp_path: Path) -> None:
    provision(tmp_path, PRIVATE)
    first = with_producer(read_definitions(tmp_path), "producer-shop", "one")

    second = with_producer(first, "producer-shop", "two")

    assert len(first["users"]) == len(second["users"])
    assert len(first["permissions"]) == len(second["permissions"])


def test_a_user_of_before_that_nobody_made_here_is_not_kept(tmp_path: Path) -> None:
    provision(tmp_path, PRIVATE)
    made = with_producer(read_definitions(tmp_path), "intruder", "secret")
    replace_file(tmp_path, DEFINITIONS_PLACE, msgspec.json.encode(made).decode(), PRIVATE)

    provision(tmp_path, PRIVATE)

    assert {user["name"] for user in read_definitions(tmp_path)["users"]} == set(BROKER_USERS)


def test_the_permissions_of_a_stack_made_by_an_older_version_are_replaced(tmp_path: Path) -> None:
    provision(tmp_path, PRIVATE)
    old = read_definitions(tmp_path)
    for permission in old["permissions"]:
        permission |= {"configure": ".*", "write": ".*", "read": ".*"}
    replace_file(tmp_path, DEFINITIONS_PLACE, msgspec.json.encode(old).decode(), PRIVATE)

    provision(tmp_path, PRIVATE)

    assert rights(read_definitions(tmp_path), "producer") == [("/", "^$", r"^etlpay\.events$", "^$")]


def test_producers_that_are_bound_stay_so_over_a_start(tmp_path: Path) -> None:
    provision(tmp_path, PRIVATE)
    first = (tmp_path / PRODUCERS_PLACE).read_text(encoding="utf-8")
    replace_file(tmp_path, PRODUCERS_PLACE, "[[producers]]", PRIVATE)

    provision(tmp_path, PRIVATE)

    assert first.startswith("#")
    assert (tmp_path / PRODUCERS_PLACE).read_text(encoding="utf-8") == "[[producers]]"


def rights(made: dict[str, Any], user: str) -> list[tuple[str, ...]]:
    """Return virtual host, configure, write and read of a user."""
    return [
        (each["vhost"], each["configure"], each["write"], each["read"])
        for each in made["permissions"]
        if each["user"] == user
    ]


@pytest.mark.parametrize("user", ["api-gateway", "grpc-ingest", "file-watcher", "processor", "producer"])
def test_who_has_no_business_in_a_virtual_host_cannot_enter_it(user: str) -> None:
    wanted = PUBLIC_VHOST if user == "producer" else INGEST_VHOST

    assert list(BROKER_USERS[user]) == [wanted]


@pytest.mark.parametrize("user", ["api-gateway", "grpc-ingest", "file-watcher", "queue-consumer"])
@pytest.mark.parametrize("name", ["etlpay.ingest", "etlpay.ingest.slow", "etlpay.parked", "amq.topic", "", "other"])
def test_an_edge_service_can_write_to_the_ingest_queues_and_nothing_else(user: str, name: str) -> None:
    assert may(user, INGEST_VHOST, "write", "amq.default")
    assert not may(user, INGEST_VHOST, "read", name or "amq.default")
    assert not may(user, INGEST_VHOST, "configure", name or "amq.default")
    assert not may(user, INGEST_VHOST, "write", name or "amq.fanout")


@pytest.mark.parametrize(
    ("user", "vhost", "action", "name", "allowed"),
    [
        ("processor", INGEST_VHOST, "configure", "etlpay.ingest", True),
        ("processor", INGEST_VHOST, "read", "etlpay.ingest.slow", True),
        ("processor", INGEST_VHOST, "configure", "etlpay.parked", True),
        ("processor", INGEST_VHOST, "read", "etlpay.parked", False),
        ("processor", INGEST_VHOST, "configure", "etlpay.ingest2", False),
        ("processor", INGEST_VHOST, "write", "etlpay.ingest", False),
        ("queue-consumer", PUBLIC_VHOST, "read", "payments", True),
        ("queue-consumer", PUBLIC_VHOST, "configure", "etl-queue", True),
        ("queue-consumer", PUBLIC_VHOST, "configure", "etl-queue.parked", True),
        ("queue-consumer", PUBLIC_VHOST, "read", "etl-queue.parked", False),
        ("queue-consumer", PUBLIC_VHOST, "write", "amq.default", True),
        ("queue-consumer", PUBLIC_VHOST, "write", "amq.fanout", False),
        ("producer", PUBLIC_VHOST, "write", "etlpay.events", True),
        ("producer", PUBLIC_VHOST, "write", "etlpay.events.mine", False),
        ("producer", PUBLIC_VHOST, "write", "amq.default", False),
        ("producer", PUBLIC_VHOST, "write", "etl-queue", False),
        ("producer", PUBLIC_VHOST, "write", "etl-queue.parked", False),
        ("producer", PUBLIC_VHOST, "configure", "etl-queue", False),
        ("producer", PUBLIC_VHOST, "configure", "etlpay.events", False),
        ("producer", PUBLIC_VHOST, "read", "etl-queue", False),
        ("producer", PUBLIC_VHOST, "read", "etl-queue.parked", False),
        ("producer", PUBLIC_VHOST, "read", "etlpay.events", False),
        ("operator", PUBLIC_VHOST, "read", "etl-queue.parked", True),
        ("operator", INGEST_VHOST, "read", "etlpay.parked", True),
    ],
)
def test_a_broker_user_may_do_what_it_needs_and_no_more(
    user: str, vhost: str, action: str, name: str, *, allowed: bool
) -> None:
    assert allowed == may(user, vhost, action, name)


def may(user: str, vhost: str, action: str, name: str) -> bool:
    """Decide as RabbitMQ does: an expression that is found anywhere in the name allows it."""
    return bool(re.search(getattr(BROKER_USERS[user][vhost], action), name))
