"""An answer that comes too late is a fault, unless the service itself was disturbed."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import httpx2
import pytest

from faults.harness.deadlines import timed
from faults.harness.journal import Journal
from faults.harness.load import Load
from faults.harness.readers import Reader
from faults.harness.world import Place

_PROBLEM = {"content-type": "application/problem+json", "retry-after": "1"}


def place(*, disturbed: bool) -> Place:
    return cast("Place", SimpleNamespace(disturbed_since=lambda *_: disturbed))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal", "case", seed=1)
    yield journal
    journal.close()


@pytest.mark.parametrize(
    ("disturbed", "seconds_max", "faults"),
    [
        pytest.param(False, 0.01, 1, id="late"),
        pytest.param(False, 5.0, 0, id="in time"),
        pytest.param(True, 0.01, 0, id="late, of a service that was frozen"),
        pytest.param(False, None, 0, id="only timed"),
    ],
)
async def test_a_late_answer_of_an_undisturbed_service_is_a_fault(
    journal: Journal, *, disturbed: bool, seconds_max: float | None, faults: int
) -> None:
    with timed(place(disturbed=disturbed), journal, "http", seconds_max=seconds_max):
        await asyncio.sleep(0.02)

    assert sum(journal.calls.values()) == faults
    assert journal.longest_seconds["http"] >= 0.02


async def test_a_call_that_its_client_gave_up_is_late_too(journal: Journal) -> None:
    async def give_up() -> None:
        with timed(place(disturbed=False), journal, "grpc", seconds_max=0.01):
            async with asyncio.timeout(0.02):
                await asyncio.sleep(1)

    with pytest.raises(TimeoutError):
        await give_up()

    assert list(journal.calls) == ["unexpected wait for an answer of grpc-ingest: longer than 0 s"]


@pytest.mark.parametrize(
    ("status", "headers", "content", "faults"),
    [
        pytest.param(200, {}, b'{"items": []}', 0, id="an answer"),
        pytest.param(503, _PROBLEM, b"{}", 0, id="come again later"),
        pytest.param(200, {}, b"{}", 1, id="another answer"),
        pytest.param(503, _PROBLEM | {"content-type": "text/plain"}, b"", 1, id="no problem document"),
        pytest.param(503, {"content-type": _PROBLEM["content-type"]}, b"{}", 1, id="nothing about when"),
        pytest.param(500, _PROBLEM, b"{}", 1, id="a surprise"),
    ],
)
def test_a_question_is_answered_or_put_off_in_so_many_words(
    journal: Journal, status: int, headers: dict[str, str], content: bytes, faults: int
) -> None:
    reader = Reader(cast("Load", SimpleNamespace(journal=journal)))

    reader._expect(httpx2.Response(status, headers=headers, content=content), "items")

    assert sum(journal.calls.values()) == faults
