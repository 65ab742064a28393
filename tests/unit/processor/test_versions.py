"""A set of versions runs as a whole, and one that cannot be run stops nothing."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest

from processor.metrics import LOAD_FAILURES
from processor.programs import versions as module
from processor.programs.compiled import Version, VersionError, compile_version, without_program
from processor.programs.mask_keys import keys_by_id
from processor.programs.statements import FIND_ACTIVE, FIND_FAULTS
from processor.programs.versions import RETRY_SECONDS, Versions
from shared.contracts.errors import UnavailableError
from shared.pipelines.facts import key_id
from support.active_pipelines import KEYS, bundle_of

HEAD = 'etlpay = 1\nname = "{name}"\nsource = "{name}-*"\n'
TABLE = '[[table]]\nname = "{name}_rows"\n[table.columns]\nid = "/id"\n'


def version(number: int, name: str, *, content: bytes | None = None, more: str = "", key: str = "k-1") -> Version:
    text = (HEAD + more + TABLE).format(name=name)
    return Version(number, name, 1, content or bundle_of(text, {"mask_key": key}).content, "{}")


class FakeLedger:
    """What the ledger holds of pipelines."""

    def __init__(self, *versions: Version) -> None:
        self.versions: Sequence[Version] = versions
        self.holds: dict[str, str] = {}
        self.missing: set[str] = set()
        self.away = False
        self.looks = 0

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[Any]:
        if self.away:
            raise UnavailableError("away")
        yield self

    async def fetch(self, query: str, *parameters: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - as asyncpg
        if query == FIND_ACTIVE:
            self.looks += 1
            return [msgspec.structs.asdict(each) for each in self.versions]
        assert query == FIND_FAULTS
        wanted = zip(*parameters, strict=True)
        return [
            {"name": table, "column_name": column, "type": kind, "present": False, "granted": False}
            for table, column, kind in wanted
            if table in self.missing
        ]


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def versions_of(ledger: FakeLedger) -> tuple[Versions, Clock]:
    clock = Clock()
    return Versions(cast("Any", ledger.taken), KEYS, held=lambda: ledger.holds, clock=clock), clock


def running(versions: Versions) -> dict[str, int]:
    """Return the ids of the versions that run, by name."""
    return {each.name: each.id for each in versions.active.pipelines if each.program is not None}


UNCHECKED = (
    'etlpay = 1\nname = "b"\nsource = "b-*"\n[[table]]\nname = "t"\nmode = "latest"\nkey = ["a"]\nnewest = "a"\n'
    '[table.columns]\na = { from = "/a", type = "integer" }\n'
)
BROKEN = b'{"format": 9, "file": "b.toml", "files": {"b.toml": "source = \'b-*\'"}}'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no JSON", "cannot be compiled: are no JSON object"),
        (BROKEN, "cannot be compiled: are of a format that is not known here"),
        (bundle_of('etlpay = 1\nname = "b"\nsource = "b-*"\n').content.replace(b"etlpay = 1", b"etlpay = 2"), "etlpay"),
        (bundle_of('etlpay = 1\nname = "b"\nsource = "b-*"\n[mask]\n"/a" = "hmac"\n').content, "names none"),
        (
            bundle_of('etlpay = 1\nname = "b"\nsource = "b-*"\n[mask]\n"/a" = "hmac"\n', {"mask_key": "k-9"}).content,
            "needs the mask key 'k-9'",
        ),
        (
            bundle_of(
                'etlpay = 1\nname = "b"\nsource = "b-*"\n[personal]\nsubject = "/a"\nkey = "x"\n', {"mask_key": "k-9"}
            ).content,
            "needs the mask key 'k-9'",
        ),
        (
            bundle_of(UNCHECKED.replace('key = ["a"]', 'key = ["z"]')).content,
            "cannot be compiled: KeyError",
        ),
    ],
)
async def test_at_the_start_a_version_that_cannot_be_run_is_held_and_the_others_run(
    content: bytes, reason: str
) -> None:
    ledger = FakeLedger(version(1, "a"), version(2, "b", content=content))
    versions, _ = versions_of(ledger)

    await versions.follow(2)

    assert running(versions) == {"a": 1}
    assert reason in versions.active.held["b"]
    assert versions.active.held.keys() == {"b"}
    if content != b"no JSON":
        held = versions.active.of("b-1")
        assert held is not None
        assert (held.id, held.program) == (2, None)


@pytest.mark.parametrize("fault", ["content", "table", "key"])
async def test_a_version_that_cannot_be_run_leaves_the_running_set_as_it_is(fault: str) -> None:
    ledger = FakeLedger(version(1, "a"), version(2, "b"))
    versions, _ = versions_of(ledger)
    await versions.follow(2)
    before = versions.active.pipelines

    masks = '[mask]\n"/m" = "hmac"\n'
    bad = {
        "content": version(4, "b", content=BROKEN),
        "table": version(4, "b", more="about = 'newer'\n"),
        "key": version(4, "b", more=masks, key="k-9"),
    }[fault]
    ledger.missing = {"b_rows_1"} if fault == "table" else set()
    ledger.versions = (version(3, "a"), bad)
    await versions.follow(4)

    assert running(versions) == {"a": 1, "b": 2}
    assert versions.active.pipelines == before
    assert versions.active.held == {}

    ledger.missing = set()
    ledger.versions = (version(3, "a"), version(5, "b"))
    await versions.follow(5)
    assert running(versions) == {"a": 3, "b": 5}


async def test_what_cannot_be_run_is_tried_again_every_thirty_seconds() -> None:
    ledger = FakeLedger(version(1, "a"))
    ledger.missing = {"a_rows_1"}
    versions, clock = versions_of(ledger)
    await versions.follow(1)
    assert versions.active.held == {"a": "its table rows.a_rows_1 is missing"}

    ledger.missing = set()
    clock.seconds = RETRY_SECONDS - 1
    await versions.follow(1)
    assert (running(versions), ledger.looks) == ({}, 1)

    clock.seconds = RETRY_SECONDS
    await versions.follow(1)
    assert (running(versions), versions.active.held) == ({"a": 1}, {})

    clock.seconds = 10 * RETRY_SECONDS
    await versions.follow(1)
    assert ledger.looks == 2


async def test_one_that_is_held_since_the_start_does_not_hold_up_the_others() -> None:
    ledger = FakeLedger(version(1, "a"), version(2, "b", content=BROKEN))
    versions, _ = versions_of(ledger)
    await versions.follow(2)

    ledger.versions = (version(3, "a"), version(2, "b", content=BROKEN))
    await versions.follow(3)

    assert running(versions) == {"a": 3}
    assert versions.active.held.keys() == {"b"}


@pytest.mark.parametrize("bad", [False, True])
async def test_a_pipeline_is_held_and_goes_on_whatever_becomes_of_versions(*, bad: bool) -> None:
    ledger = FakeLedger(version(1, "a"))
    versions, _ = versions_of(ledger)
    await versions.follow(1)
    if bad:
        ledger.versions = (version(2, "a", content=BROKEN),)

    ledger.holds = {"a": "asked for", "gone": "asked for"}
    await versions.follow(2)
    assert (running(versions), versions.active.held) == ({"a": 1}, {"a": "asked for"})

    ledger.holds = {}
    await versions.follow(3)
    assert (running(versions), versions.active.held) == ({"a": 1}, {})


async def test_an_unchanged_version_is_compiled_once_and_nothing_is_read_where_nothing_changed() -> None:
    ledger = FakeLedger(version(1, "a"))
    versions, _ = versions_of(ledger)
    await versions.follow(1)
    before = versions.active.pipelines

    await versions.follow(1)
    assert ledger.looks == 1
    ledger.versions = (version(1, "a"), version(2, "b"))
    await versions.follow(2)

    assert versions.active.pipelines[0] is before[0]
    assert running(versions) == {"a": 1, "b": 2}


async def test_a_ledger_that_is_away_changes_nothing_and_is_asked_again() -> None:
    ledger = FakeLedger(version(1, "a"))
    versions, _ = versions_of(ledger)
    await versions.follow(1)
    ledger.away = True
    ledger.versions = (version(2, "a"),)

    with pytest.raises(UnavailableError):
        await versions.follow(2)
    assert running(versions) == {"a": 1}

    ledger.away = False
    await versions.follow(2)
    assert running(versions) == {"a": 2}


async def test_it_is_compiled_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def compile_slowly(*parameters: Any) -> Any:  # noqa: ANN401 - as the real one
        threads.append(threading.get_ident())
        return compile_version(*parameters)

    monkeypatch.setattr(module, "compile_version", compile_slowly)
    versions, _ = versions_of(FakeLedger(version(1, "a")))

    await asyncio.wait_for(versions.follow(1), timeout=5)

    assert threads
    assert threading.get_ident() not in threads


async def test_failures_are_counted_and_logged_once(capsys: pytest.CaptureFixture[str]) -> None:
    ledger = FakeLedger(version(1, "a", content=BROKEN))
    versions, clock = versions_of(ledger)
    before = LOAD_FAILURES._value.get()

    for _ in range(3):
        await versions.follow(1)
        clock.seconds += RETRY_SECONDS

    assert LOAD_FAILURES._value.get() == before + 3
    assert capsys.readouterr().out.count("pipelines cannot be run here") == 1


def test_a_version_whose_sources_cannot_be_told_takes_none() -> None:
    assert without_program(version(1, "a", content=b"[]")).sources == ()
    assert without_program(version(1, "a", content=b"\xff")).sources == ()


def test_a_version_without_masks_needs_no_key() -> None:
    plain = version(1, "a", content=bundle_of((HEAD + TABLE).format(name="a")).content)

    assert compile_version(plain, {}).program is not None
    with pytest.raises(VersionError):
        compile_version(version(1, "a", more='[mask]\n"/x" = "hmac"\n'), {})


def test_mask_keys_are_found_by_their_ids() -> None:
    keys = keys_by_id("current", "\n one\ntwo\n\n")

    assert keys == {key_id(key): key for key in (b"current", b"one", b"two")}
    assert keys_by_id("", "") == {}
