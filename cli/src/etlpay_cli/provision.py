"""Generates the secrets of one stack, one folder per service: `python -m etlpay_cli.provision DIR`.

Idempotent: a secret that exists is kept, so a second run changes nothing; a secret that is missing in one of its
places is copied from another. Only the standard library is imported, because this also runs as a one-shot container.

`python -m etlpay_cli.provision DIR FOLDER/FILE` replaces one file by what comes on standard input: what `etlpay
producers` does where the files lie in volumes.
"""

from __future__ import annotations

import base64
import hashlib
import json  # noqa: TID251 - definitions.json is no payload, and this module may import only the standard library
import os
import secrets
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Every place of a secret, as folder/file. A service can read its own folder only.
SECRET_PLACES: dict[str, tuple[str, ...]] = {
    "owner": ("postgres/owner_password", "migrate/owner_password"),
    "processor role": ("migrate/processor_password", "processor/postgres_password"),
    "reader role": ("migrate/reader_password", "api-gateway/postgres_password", "operator/reader_password"),
    "pipelines role": ("migrate/pipelines_password", "pipelines/postgres_password"),
    "api-gateway": ("api-gateway/amqp_password",),
    "grpc-ingest": ("grpc-ingest/amqp_password",),
    "file-watcher": ("file-watcher/amqp_password",),
    "queue-consumer": ("queue-consumer/amqp_password",),
    "processor": ("processor/amqp_password",),
    "producer": ("operator/producer_password",),
    "operator": ("operator/amqp_password",),
    # By its token the processor knows which service calls.
    "token of api-gateway": ("api-gateway/processor_token", "processor/api_gateway_token"),
    "token of grpc-ingest": ("grpc-ingest/processor_token", "processor/grpc_ingest_token"),
    "token of the operator": ("operator/processor_token", "processor/operator_token"),
    "cache": (
        "redis/redis_password",
        "api-gateway/redis_password",
        "processor/redis_password",
        "operator/redis_password",
    ),
    # The key that signs the entries of the cache. The cache itself must not have it.
    "cache's key": ("api-gateway/cache_key", "processor/cache_key", "operator/cache_key"),
    # The key of the keyed hashes in typed rows. With another one equal values would no longer be equal.
    "mask key": ("processor/mask_key", "pipelines/mask_key"),
}
DEFINITIONS_PLACE = "rabbitmq/definitions.json"
CACHE_CONFIG_PLACE = "redis/redis.conf"
# Which sources the producers of the queue may name. Written by `etlpay producers`, read by queue-consumer.
PRODUCERS_PLACE = "queue-consumer/producers.toml"
_NO_PRODUCERS = "# Written by `etlpay producers`. While this list is empty, every producer may name every source.\n"
# The names of the broker users that `etlpay producers` makes begin with this; no other name does.
PRODUCER_PREFIX = "producer-"
FOLDERS = sorted({place.split("/")[0] for places in SECRET_PLACES.values() for place in places} | {"rabbitmq"})


@dataclass(frozen=True, slots=True)
class Permission:
    """What a broker user may do, as RabbitMQ's regular expressions over names of queues and exchanges."""

    configure: str
    write: str
    read: str


# The ingest queues have a virtual host of their own, so that no permission for a foreign queue gives access to them.
PUBLIC_VHOST = "/"
INGEST_VHOST = "etlpay"

_NOTHING = r"^$"
# RabbitMQ calls the default exchange `amq.default` here. A service that only publishes neither reads nor declares.
_PUBLISHES = {INGEST_VHOST: Permission(configure=_NOTHING, write=r"^amq\.default$", read=_NOTHING)}
# A producer writes to the exchange. It cannot read, empty, declare or delete a queue. It cannot write to the default
# exchange, which leads to every queue of the virtual host.
_PRODUCES = {PUBLIC_VHOST: Permission(configure=_NOTHING, write=r"^etlpay\.events$", read=_NOTHING)}
_EVERYTHING = Permission(configure=".*", write=".*", read=".*")
# By user and virtual host. A user cannot connect to a virtual host that is not listed for it.
BROKER_USERS: dict[str, dict[str, Permission]] = {
    "api-gateway": _PUBLISHES,
    "grpc-ingest": _PUBLISHES,
    "file-watcher": _PUBLISHES,
    # Declaring a queue that has a dead letter exchange takes reading it, and writing to that exchange.
    "processor": {
        INGEST_VHOST: Permission(
            configure=r"^etlpay\.(ingest|ingest\.slow|parked|receipts)$",
            write=r"^amq\.default$",
            read=r"^etlpay\.(ingest|ingest\.slow|receipts)$",
        )
    },
    # Foreign queues may have any name. Only the operator may read parked messages.
    "queue-consumer": _PUBLISHES
    | {
        PUBLIC_VHOST: Permission(
            configure=r"^(?!amq\.)", write=r"^(amq\.default$|(?!amq\.))", read=r"^(?!amq\.)(?!.*\.parked$)"
        )
    },
    "producer": _PRODUCES,
    "operator": {PUBLIC_VHOST: _EVERYTHING, INGEST_VHOST: _EVERYTHING},
}
_SALT_BYTES = 4  # fixed by rabbit_password_hashing_sha256


@dataclass(frozen=True, slots=True)
class Modes:
    """The permissions of what is written: of folders and of files."""

    folder: int
    file: int


PRIVATE = Modes(folder=0o700, file=0o600)
# In a container the folder is a volume that only its service mounts, and the service runs under a user of its own.
VOLUME = Modes(folder=0o755, file=0o444)


def provision(root: Path, modes: Modes) -> None:
    """Write the missing secrets below `root`, and the configuration of the servers that follows from them."""
    root.parent.mkdir(parents=True, exist_ok=True)
    make_folder(root, modes.folder)
    for folder in FOLDERS:
        make_folder(root / folder, modes.folder)
    passwords = {name: _settle_secret(root, places, modes) for name, places in SECRET_PLACES.items()}
    path = root / DEFINITIONS_PLACE
    known = _read_definitions(path)
    wanted = definitions({user: passwords[user] for user in BROKER_USERS}, known)
    if wanted != known:
        write_file(path, render_definitions(wanted), modes)
    config, cache = root / CACHE_CONFIG_PLACE, cache_config(passwords["cache"])
    if not config.exists() or config.read_text() != cache:
        write_file(config, cache, modes)
    if not (root / PRODUCERS_PLACE).exists():
        write_file(root / PRODUCERS_PLACE, _NO_PRODUCERS, modes)


def cache_config(password: str) -> str:
    """Return what Redis or Valkey reads at its start: no command line holds its password."""
    return f"requirepass {password}\n"


def replace_file(root: Path, place: str, text: str, modes: Modes) -> None:
    """Replace one of the files below `root`, given as folder/file, whole or not at all."""
    write_file(root / place, text, modes)


def render_definitions(wanted: dict[str, Any]) -> str:
    """Return the text of the broker's definitions."""
    return json.dumps(wanted, indent=2) + "\n"


def definitions(passwords: dict[str, str], known: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what RabbitMQ loads at its start.

    Of `known` a hash that still fits its password is kept, and so is each user that `etlpay producers` has made.
    """
    users = (known or {}).get("users", ())
    hashes = {user["name"]: user["password_hash"] for user in users}
    producers = [user for user in users if user["name"].startswith(PRODUCER_PREFIX)]
    return {
        "vhosts": [{"name": PUBLIC_VHOST}, {"name": INGEST_VHOST}],
        "users": [
            _broker_user(
                user,
                _keep_or_hash(passwords[user], hashes.get(user)),
                tags=["administrator"] if user == "operator" else [],
            )
            for user in BROKER_USERS
        ]
        + producers,
        "permissions": [
            each
            for user, permissions in (BROKER_USERS | {user["name"]: _PRODUCES for user in producers}).items()
            for each in _permissions(user, permissions)
        ],
    }


def with_producer(known: dict[str, Any], user: str, password: str) -> dict[str, Any]:
    """Return the definitions with one more user, who can publish events and do nothing else."""
    added = _broker_user(user, hash_password(password, secrets.token_bytes(_SALT_BYTES)), tags=[])
    without = without_producer(known, user)
    return without | {
        "users": [*without["users"], added],
        "permissions": [*without["permissions"], *_permissions(user, _PRODUCES)],
    }


def without_producer(known: dict[str, Any], user: str) -> dict[str, Any]:
    """Return the definitions without a user and without its permissions."""
    return known | {
        "users": [each for each in known["users"] if each["name"] != user],
        "permissions": [each for each in known["permissions"] if each["user"] != user],
    }


def _broker_user(name: str, password_hash: str, *, tags: list[str]) -> dict[str, Any]:
    """Return a user as the broker's definitions have it."""
    return {
        "name": name,
        "password_hash": password_hash,
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": tags,
    }


def _permissions(user: str, permissions: dict[str, Permission]) -> list[dict[str, str]]:
    return [
        {"user": user, "vhost": vhost, "configure": may.configure, "write": may.write, "read": may.read}
        for vhost, may in permissions.items()
    ]


def hash_password(password: str, salt: bytes) -> str:
    """Return RabbitMQ's salted SHA-256 of a password."""
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def _keep_or_hash(password: str, known: str | None) -> str:
    if known is not None and hash_password(password, base64.b64decode(known)[:_SALT_BYTES]) == known:
        return known
    return hash_password(password, secrets.token_bytes(_SALT_BYTES))


def _settle_secret(root: Path, places: tuple[str, ...], modes: Modes) -> str:
    """Return the secret, written to each of its places where it was missing."""
    present = [place for place in places if (root / place).exists()]
    secret = (root / present[0]).read_text().strip() if present else secrets.token_urlsafe(32)
    for place in places:
        if place not in present:
            write_file(root / place, secret, modes)
    return secret


def _read_definitions(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    known: dict[str, Any] = json.loads(path.read_text())
    return known


def make_folder(folder: Path, mode: int) -> None:
    """Make a folder; one that exists, such as the mount point of a volume, keeps its mode."""
    if not folder.exists():
        folder.mkdir()
        folder.chmod(mode)


def write_file(path: Path, text: str, modes: Modes) -> None:
    """Replace a file whole or not at all; it never has a wider mode than its final one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary = Path(name)
    temporary.chmod(modes.file)
    temporary.replace(path)


def main() -> int:
    """Provision the folder named on the command line, readable by the service that mounts it, or replace one file."""
    match sys.argv[1:]:
        case [root]:
            provision(Path(root), VOLUME)
        case [root, place] if place in {DEFINITIONS_PLACE, PRODUCERS_PLACE}:
            replace_file(Path(root), place, sys.stdin.read(), VOLUME)
        case _:
            sys.stderr.write("usage: python -m etlpay_cli.provision DIR [FOLDER/FILE]\n")
            return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
