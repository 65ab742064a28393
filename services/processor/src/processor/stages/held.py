"""Works off HELD events: tries whether a hold can end, and processes what is owed once it has ended."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final, TypeAlias

import msgspec
import structlog

from processor.ledger.holds import Holds
from processor.ledger.owed import FIRST, Owed, OwedEvents, Position, portions
from processor.ledger.rows import Processed
from processor.ledger.typed_writer import TypedRowsError
from processor.metrics import count_records
from processor.programs.active import ActiveSet
from processor.stages.drift import DriftCounts
from shared.contracts.errors import EtlPayError, RetryableError
from shared.contracts.event import Envelope, now
from shared.contracts.result import RecordStatus
from shared.runtime.waiting import wait_any

Transform: TypeAlias = Callable[[Envelope, ActiveSet], Processed]

_SLICE_EVENTS_MAX: Final = 50
_SLICE_BYTES_MAX: Final = 4 * 1024 * 1024
_PAUSE_SECONDS: Final = 0.01
# Of one pipeline, before it is another's turn.
_TURN_EVENTS_MAX: Final = 200
_WORKS: Final = "rows can be written again"
_PROBE_SECONDS_MIN: Final = 5.0
_PROBE_SECONDS_MAX: Final = 60.0
# A batch that was transformed while its pipeline was held may be committed so long after the hold.
_LATE_SECONDS: Final = 60.0
_LATE: Final = timedelta(minutes=10)
# Clocks differ, and what is later than that was seen by the process that wrote it.
_SINCE: Final = timedelta(hours=1)

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class _Debt(msgspec.Struct):
    """What is owed of a pipeline: everything from the HELD record after `position` on.

    `settled`: where it was all processed once. `held`: whether it was at the last look. `probe_at`: when the hold is
    tried next. `rest_at`: when its version is tried next. `quiet_at`: when nothing more can come; None: something was
    found at the last look.
    """

    position: Position
    settled: Position
    held: bool = False
    probe_at: float = 0.0
    probe_seconds: float = _PROBE_SECONDS_MIN
    rest_at: float = 0.0
    quiet_at: float | None = None


class HeldEvents:
    """A part of the processor, see `Part`. At most one slice is in flight, and live batches come between slices."""

    def __init__(  # noqa: PLR0913 - what it needs, and the pauses
        self,
        holds: Holds,
        owed: OwedEvents,
        *,
        active: Callable[[], ActiveSet],
        transform: Transform,
        drift: DriftCounts,
        look_seconds: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`active` returns the pipelines that run now; `transform` makes the record of a stored event anew.

        `drift` counts what their pipelines do not read.
        """
        self._holds = holds
        self._owed = owed
        self._active = active
        self._transform = transform
        self._drift = drift
        self._look_seconds = look_seconds
        self._clock = clock
        self._debts: dict[str, _Debt] = {}
        self._closing = asyncio.Event()
        self._began = False

    async def run(self) -> None:
        """Look at holds, and at what is owed, until `close`."""
        while not self._closing.is_set():
            more = False
            try:
                more = await self.turn()
            except RetryableError:
                # The ledger cannot be written now; the next look tries again.
                pass
            except EtlPayError as error:
                log.error("HELD events cannot be processed; this is tried again", reason=str(error))  # noqa: TRY400 - a traceback may quote a value
            await wait_any(self._closing, seconds_max=_PAUSE_SECONDS if more else self._look_seconds)

    def close(self) -> None:
        """Begin no other slice."""
        self._closing.set()

    async def turn(self) -> bool:
        """Give each pipeline of which something may be owed a turn; return True where there is more to do at once.

        Raises as `Store.write`.
        """
        await self._holds.look()
        if not self._began:
            await self._expect(await self._owed.pipelines())
            self._began = True
        written = self._holds.take_owed()
        await self._expect({*self._holds.held, *written})
        for name in written:
            self._debts[name].quiet_at = None
        turns = [await self._turn_of(name, debt) for name, debt in list(self._debts.items())]
        return any(turns)

    async def _expect(self, names: set[str]) -> None:
        """Look for what is owed of pipelines from now on: from where everything was processed once."""
        for name in sorted(names - self._debts.keys()):
            moment = await self._holds.settled_at(name)
            position = FIRST if moment is None else (moment - _SINCE, 0)
            settled = FIRST if moment is None else (moment, 0)
            self._debts[name] = _Debt(position, settled)

    async def _turn_of(self, name: str, debt: _Debt) -> bool:
        if self._closing.is_set() or self._clock() < debt.rest_at:
            return False
        is_held = name in self._holds.held
        if is_held and not debt.held:
            self._delay(debt)
        debt.held = is_held
        if is_held and not (self._holds.is_own(name) and self._clock() >= debt.probe_at):
            return False
        look = await self._owed.find(name, debt.position)
        if not look.owed:
            return await self._pass_by(name, debt, look.last, is_held=is_held)
        debt.quiet_at = None
        for portion in portions(look.owed[:_TURN_EVENTS_MAX], events_max=_SLICE_EVENTS_MAX, bytes_max=_SLICE_BYTES_MAX):
            began = self._clock()
            if not await self._slice(name, debt, portion):
                return False
            # As long as the slice took, and no longer than others can do without.
            await wait_any(self._closing, seconds_max=self._clock() - began)
            if is_held or self._closing.is_set():
                break
        return True

    async def _pass_by(self, name: str, debt: _Debt, last: Position | None, *, is_held: bool) -> bool:
        """Go on after records of which nothing is owed; at the end, keep that everything is processed."""
        if last is not None:
            debt.position = last
            return True
        if is_held:
            # Nothing can show whether the table is as it should be, but the next event.
            await self._holds.release(name, _WORKS)
            return False
        if debt.quiet_at is None:
            debt.quiet_at = self._clock() + _LATE_SECONDS
        elif self._clock() >= debt.quiet_at:
            await self._settle(name, debt)
        return False

    async def _settle(self, name: str, debt: _Debt) -> None:
        """Look once more at the records of the last minutes, then forget the pipeline."""
        moment, _ = debt.position
        if debt.position > debt.settled and debt.position != FIRST:
            position: Position | None = (moment - _LATE, 0)
            while position is not None and not self._closing.is_set():
                look = await self._owed.find(name, position)
                if look.owed:
                    debt.position, debt.quiet_at = position, None
                    return
                position = look.last
            if self._closing.is_set():
                return
            await self._holds.settle(name)
        del self._debts[name]

    async def _slice(self, name: str, debt: _Debt, portion: Sequence[Owed]) -> bool:
        """Process some events; return True where that went through."""
        active = self._active()
        others = {held: reason for held, reason in active.held.items() if held != name}
        released = ActiveSet(active.pipelines, others)
        events = await self._owed.read(portion)
        processed = [self._transform(each.event, released) for each in events]
        if any(each.status is RecordStatus.HELD and _name_of(each) == name for each in processed):
            # Its version cannot be run here.
            debt.rest_at = self._clock() + _PROBE_SECONDS_MAX
            return False
        try:
            written = await self._owed.write(name, events, processed, processed_at=now())
        except TypedRowsError as error:
            if debt.held:
                self._delay(debt)
            await self._holds.hold(error.pipeline.name if error.pipeline else name, str(error))
            return False
        if written is None:
            return False
        count_records(each.status for each in written)
        ids = {each.event.event_id: each.owed.raw_event_id for each in events}
        self._drift.add((each, ids[each.event.event_id]) for each in written if each.drift)
        debt.position = portion[-1].position
        if any(each.rows for each in written):
            debt.probe_seconds = _PROBE_SECONDS_MIN
        if name in self._holds.held:
            await self._holds.release(name, _WORKS)
        return True

    def _delay(self, debt: _Debt) -> None:
        """Let the next try wait, longer each time."""
        debt.probe_at = self._clock() + debt.probe_seconds
        debt.probe_seconds = min(2 * debt.probe_seconds, _PROBE_SECONDS_MAX)


def _name_of(processed: Processed) -> str:
    return "" if processed.pipeline is None else processed.pipeline.name
