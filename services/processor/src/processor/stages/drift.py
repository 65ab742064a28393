"""Counts what pipelines do not read of the events that were stored, and writes the counts every few seconds."""

import asyncio
import uuid
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, TypeAlias

import structlog

from processor.ledger.drifts import DriftCount, DriftKey, DriftStore
from processor.ledger.rows import Processed
from processor.metrics import DRIFT
from processor.programs.active import ActivePipeline
from shared.contracts.drift import OTHER_PLACES, DriftKind
from shared.contracts.errors import EtlPayError, RetryableError
from shared.contracts.receipt import hour_of
from shared.runtime.waiting import wait_any

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_WRITE_SECONDS: Final = 10.0
# It must fit into the deadline of the drain, with the other parts.
_CLOSING_SECONDS_MAX: Final = 4.0
_PLACE_CHARS_MAX: Final = 300
PLACES_MAX: Final = 1_000
"""Places of one version and one hour that are counted apart."""
REMEMBERED_MAX: Final = 10_000
"""Places of all versions and hours that are counted apart; then the places of the earliest hours are forgotten."""

_Places: TypeAlias = set[tuple[DriftKind, str]]
_Alike: TypeAlias = tuple[ActivePipeline, int, tuple[tuple[DriftKind, str], ...]]


class DriftCounts:
    """Counts in memory, by version, hour and place; of bounded size, whatever names the members have."""

    def __init__(self, *, places_max: int = PLACES_MAX, remembered_max: int = REMEMBERED_MAX) -> None:
        """Nothing is counted yet."""
        self._places_max = places_max
        self._remembered_max = remembered_max
        self._counts: dict[DriftKey, DriftCount] = {}
        # They outlive the portions, so that one hour has no more places than this however many portions it has.
        self._places: dict[tuple[int, int], _Places] = {}
        self._remembered = 0

    def add(self, stored: Iterable[tuple[Processed, int]]) -> None:
        """Count events that were stored, each with the id of its raw event. An event counts once for each place."""
        # Events of one batch mostly hold the same: the rows of a CSV file with one column too many.
        alike: dict[_Alike, DriftCount] = {}
        for processed, raw_event_id in stored:
            if processed.pipeline is not None:
                hour = hour_of(processed.event.received_at)
                count = alike.setdefault((processed.pipeline, hour, processed.drift), DriftCount())
                count.events += 1
                count.example = raw_event_id
        for (pipeline, hour, drift), found in alike.items():
            for key in {self._key(pipeline.id, hour, kind, place) for kind, place in drift}:
                count = self._counts.setdefault(key, DriftCount())
                count.events += found.events
                count.example = found.example
            for kind in {kind for kind, _ in drift}:
                DRIFT.labels(pipeline.name, kind.label).inc(found.events)

    def take(self) -> dict[DriftKey, DriftCount]:
        """Return what was counted since the last call."""
        taken, self._counts = self._counts, {}
        return taken

    def _key(self, pipeline_id: int, hour: int, kind: DriftKind, place: str) -> DriftKey:
        place = place[:_PLACE_CHARS_MAX]
        known = self._places.get((pipeline_id, hour), ())
        if (kind, place) not in known:
            if len(known) >= self._places_max or not self._has_capacity(hour):
                return DriftKey(pipeline_id, hour, kind, OTHER_PLACES)
            self._places.setdefault((pipeline_id, hour), set()).add((kind, place))
            self._remembered += 1
        return DriftKey(pipeline_id, hour, kind, place)

    def _has_capacity(self, hour: int) -> bool:
        """Forget the places of earlier hours where there are too many; return False where there are no earlier ones."""
        while self._remembered >= self._remembered_max:
            earliest = min(self._places, key=lambda version_and_hour: version_and_hour[1])
            if earliest[1] >= hour:
                return False
            self._remembered -= len(self._places.pop(earliest))
        return True


class DriftRecorder:
    """A part of the processor, see `Part`: adds what was counted to the ledger. A crash loses the last portion."""

    def __init__(self, store: DriftStore, counts: DriftCounts, *, seconds: float = _WRITE_SECONDS) -> None:
        """List it before the parts that count."""
        self._store = store
        self._counts = counts
        self._seconds = seconds
        self._instance = uuid.uuid4()
        self._number = 0
        self._portion: dict[DriftKey, DriftCount] = {}
        self._closing = asyncio.Event()

    async def run(self) -> None:
        """Write every few seconds until `close`, and then once more."""
        while not self._closing.is_set():
            await wait_any(self._closing, seconds_max=self._seconds)
            if not self._closing.is_set():
                await self._write()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSING_SECONDS_MAX):
                await self._write()
        if self._portion:
            log.warning("the last counts of drift are not written")

    def close(self) -> None:
        """Let `run` write what is left, and return."""
        self._closing.set()

    async def _write(self) -> None:
        """Write the portion that could not be written before, if there is one, and what was counted since."""
        for _ in range(2):
            if not self._portion:
                self._portion = self._counts.take()
                self._number += 1
            if not self._portion:
                return
            try:
                await self._store.add(self._instance, self._number, self._portion)
            except RetryableError as error:
                log.debug("drift is not written; this is tried again", reason=str(error))
                return
            except EtlPayError as error:
                # Nothing depends on it.
                log.error("drift cannot be written; a portion is left out", reason=str(error))  # noqa: TRY400 - a traceback may quote a place
            self._portion = {}
