"""Sums of the typed tables equal those of the events, to the last digit; `make exact EVENTS=1000000` sends more."""

from collections.abc import Iterator

import pytest

from benchmarks.system import System, running_system
from exact.__main__ import EXAMPLES, FORMATS, compare

EVENTS = 10_000


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """A local stack of its own, which reads the bank's files as they are."""
    with running_system(ETLPAY_FILES_FORMATS_FILE=str(FORMATS)) as running:
        yield running


async def test_sums_by_currency_are_those_of_the_events_to_the_last_digit(system: System) -> None:
    """Events come as HTTP batches and as files, each object's states in any order."""
    examples = [EXAMPLES["stripe"], EXAMPLES["bank_csv"]]

    assert await compare(system, examples, events=EVENTS) == {"stripe": [], "bank_csv": []}
