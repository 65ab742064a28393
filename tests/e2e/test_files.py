"""The file channel of the running system."""

import asyncio
import gzip
import signal
from pathlib import Path

import msgspec
import pytest
import zstandard

from support.stack import Stack, until

ROWS = [b'{"id": "%d", "amount": 1.%d0}' % (n, n) for n in range(3)]
FORMS = {
    "rows.json": b"[" + b", ".join(ROWS) + b"]\n",
    "rows.ndjson": b"\n".join(ROWS) + b"\n",
    "rows.jsonl.gz": gzip.compress(b"\n".join(ROWS)),
    "rows.ndjson.zst": zstandard.compress(b"\r\n".join(ROWS)),
}


async def ended(stack: Stack, source: str, name: str, folder: str = "done") -> Path:
    """Return where a file ended, once it has."""
    place = stack.inbox.parent / folder / source / name

    async def there() -> bool:
        return place.exists()

    assert await until(there, bool), f"{name} did not end in {folder}/"
    return place


@pytest.mark.parametrize("name", FORMS)
async def test_each_row_becomes_an_event_with_its_bytes_and_the_file_ends_in_done(
    stack: Stack, source: str, name: str
) -> None:
    stack.drop(source, name, FORMS[name])

    rows = await stack.events_of(source, count=3)
    place = await ended(stack, source, name)

    assert sorted(row["body"] for row in rows) == sorted(ROWS)
    assert {row["channel"] for row in rows} == {"file"}
    assert place.read_bytes() == FORMS[name]


async def test_one_object_in_a_json_file_is_one_event(stack: Stack, source: str) -> None:
    stack.drop(source, "one.json", b'{"amount": 5,\n "currency": "EUR"}\n')

    [row] = await stack.events_of(source, count=1)

    assert row["body"] == b'{"amount": 5,\n "currency": "EUR"}'


async def test_a_csv_row_keeps_its_bytes_and_its_amount_as_text(stack: Stack, source: str) -> None:
    stack.drop(source, "settlement.csv", b'id,amount,note\n1,"1,10","two\nlines"\n2,0.1000000000000000055,\n')

    rows = await stack.events_of(source, count=2)

    by_id = {row["idempotency_key"]: row for row in rows}
    assert {key: msgspec.json.decode(row["payload"]) for key, row in by_id.items()} == {
        "1": {"id": "1", "amount": "1,10", "note": "two\nlines"},
        "2": {"id": "2", "amount": "0.1000000000000000055", "note": ""},
    }
    assert by_id["1"]["body"] == b'id,amount,note\n1,"1,10","two\nlines"'


async def test_a_broken_row_is_rejected_with_its_line_and_the_others_are_stored(stack: Stack, source: str) -> None:
    stack.drop(source, "mixed.ndjson", b'{"n": 1}\n{"n": canary\n{"n": 3}\n')

    await stack.events_of(source, count=2)
    place = await ended(stack, source, "mixed.ndjson")

    [reject] = place.with_name("mixed.ndjson.rejects.ndjson").read_bytes().splitlines()
    assert msgspec.json.decode(reject)["line"] == 2
    assert b"canary" not in reject


async def test_a_file_that_cannot_be_read_ends_in_failed(stack: Stack, source: str) -> None:
    stack.drop(source, "broken.ndjson.gz", b"this is no gzip")

    await ended(stack, source, "broken.ndjson.gz", "failed")

    assert await stack.fetch("SELECT 1 FROM events WHERE source = $1", source) == []


async def test_the_same_file_again_stores_nothing_twice(stack: Stack, source: str) -> None:
    content = b'{"n": 1}\n{"n": 1}\n'
    stack.drop(source, "first.ndjson", content)
    await ended(stack, source, "first.ndjson")

    stack.drop(source, "second.ndjson", content)
    await ended(stack, source, "second.ndjson")
    await asyncio.sleep(1)

    await stack.events_of(source, count=2)


async def test_a_file_in_place_is_read_again_after_each_edit_and_restart(stack: Stack, source: str) -> None:
    path = stack.root / "data" / f"{source}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b'[{"value": 1}, {"value": 2}]')
    command = ("file_watcher", "--path", str(path), "--source", source, "--interval", "1")
    watcher = stack.start(*command)
    await stack.events_of(source, count=2)

    path.write_bytes(b'[{"value": 2}, {"value": 1}, {"value": 3}]')
    await stack.events_of(source, count=3)
    watcher.send_signal(signal.SIGTERM)
    assert watcher.wait(timeout=30) == 0
    path.write_bytes(b'[{"value": 1}, {"value": 2}, {"value": 3}, {"value": 4}]')
    again = stack.start(*command)

    rows = await stack.events_of(source, count=4)
    await asyncio.sleep(2.5)
    assert len(await stack.fetch("SELECT 1 FROM events WHERE source = $1", source)) == 4
    again.send_signal(signal.SIGTERM)
    assert again.wait(timeout=30) == 0
    assert [row["body"] for row in rows][-1] == b'{"value": 4}'
    assert path.exists()
