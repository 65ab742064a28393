"""The intake of events where a client waits: one flow for HTTP and gRPC, for one event and for a batch."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Protocol, TypeAlias, TypeVar

from shared.auth.authenticator import Caller
from shared.contracts.errors import InvalidEventError, OutcomeUnknownError, RetryableError
from shared.contracts.event import Channel, Envelope, now, stamp
from shared.contracts.result import Answered, ErrorResult, Result, ResultKind, error_result
from shared.counters import TALLY, InHand, count_unconfirmed
from shared.wire import split_batches

T = TypeVar("T")

Read: TypeAlias = Callable[[T, datetime], Envelope]
"""Makes an event of a request and its moment of arrival. Raises InvalidEventError."""

Answer: TypeAlias = Callable[[Envelope | None, Result | BaseException], None]
"""Takes the result of a request; no event: it is refused. An exception is a fault of ours."""

HandOver: TypeAlias = Callable[[Sequence[Envelope]], Awaitable[list[Result]]]
"""Returns one result per event, in order. Raises RetryableError."""


class Submitting(Protocol):
    """Hands events over; `shared.submit.submitter.Submitter` is the real one."""

    async def submit(self, events: Sequence[Envelope]) -> list[Result]:
        """Return one result per event. Raises RetryableError."""

    async def enqueue(self, events: Sequence[Envelope]) -> list[Result]:
        """Return once the events are durable in the queue. Raises RetryableError."""

    def offer(self, events: Sequence[Envelope]) -> "asyncio.Future[list[Result]]":
        """Take events, at least one, as `submit` does, and return the future of its results."""


class Intake:
    """Takes events in: charge the rate, read and check each, submit or enqueue, count, answer in order.

    A service decodes its request, calls, and encodes the results:

    >>> answered = await intake.accept([document], read_event, caller)  # doctest: +SKIP
    >>> [(event, result)] = answered  # doctest: +SKIP
    """

    def __init__(self, submitter: Submitting, channel: Channel, *, batch_events_max: int, batch_bytes_max: int) -> None:
        """`submitter` takes the events of `channel` over, at most so many at once."""
        self.submit = submitter.submit
        self.enqueue = submitter.enqueue
        self._offer = submitter.offer
        self._channel = channel
        self._batch_events_max = batch_events_max
        self._batch_bytes_max = batch_bytes_max

    def accept(
        self, requests: Sequence[T], read: Read[T], caller: Caller, *, hand_over: HandOver | None = None
    ) -> Awaitable[list[Answered]]:
        """Return the results of requests that came together, in order; every one is counted when this returns.

        `hand_over`: `submit` (the default), `enqueue`, or `submit_within`.

        Raises:
            RateExceededError: nothing was taken.
        """
        caller.spend(len(requests))
        return self._submit(*self._read(requests, read, caller, now()), hand_over or self.submit)

    def accept_one(self, request: T, read: Read[T], caller: Caller, *, answer: Answer) -> None:
        """Take one request as `accept` does, without a task that waits: `answer` is called with its result, once.

        Raises:
            RateExceededError: nothing was taken, and `answer` is not called.
        """
        caller.spend(1)
        events, refused = self._read((request,), read, caller, now())
        if refused:
            answer(None, refused[0])
            return
        in_hand = TALLY.in_hand
        in_hand.begin()
        try:
            offered = self._offer(events)
        except RetryableError as error:
            offered = asyncio.get_running_loop().create_future()
            offered.set_exception(error)
        offered.add_done_callback(partial(self._settle, events[0], in_hand, answer))

    def _settle(
        self, event: Envelope, in_hand: InHand, answer: Answer, offered: "asyncio.Future[list[Result]]"
    ) -> None:
        """Count an event, and give its result to `answer`."""
        result: Result | BaseException
        try:
            [result] = offered.result()
        except OutcomeUnknownError as error:
            result = error_result(error)
            count_unconfirmed(self._channel, (event,))
        except RetryableError as error:
            result = error_result(error)
            TALLY.add(self._channel, result.kind, event.source, event.received_at)
        except BaseException as error:  # noqa: BLE001 - it is told to whoever waits
            result = error
            count_unconfirmed(self._channel, (event,))
        else:
            TALLY.add(self._channel, result.kind, event.source, event.received_at)
        in_hand.end()
        answer(event, result)

    def accept_part(
        self, requests: Iterable[T], read: Read[T], caller: Caller, *, hand_over: HandOver, received_at: datetime
    ) -> Awaitable[list[Answered]]:
        """Return the results of the next requests of a stream that was let in: those are charged, and never refused.

        The stream calls `caller.check_rate` and begins `shared.counters.in_hand` before it takes its moment.
        `received_at` is that of the first request: `stamp` of the stream's moment and of the requests before it.
        All `requests` are read before this returns; an iterator need not keep those that were.
        """
        events, refused = self._read(requests, read, caller, received_at)
        caller.overdraw(len(events) + len(refused))
        return self._submit(events, refused, hand_over)

    async def submit_within(self, seconds: float, events: Sequence[Envelope]) -> list[Result]:
        """Submit, and wait as long as the client likes to.

        Where that is over before there are results the events go to the queue as well: then `QUEUED` is true, and the
        ledger stores an event once that comes over both transports. Raises RetryableError.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self.submit(events)
        except TimeoutError:
            pass
        try:
            return await self.enqueue(events)
        except RetryableError as error:
            raise OutcomeUnknownError("it may still be stored") from error

    def _read(
        self, requests: Iterable[T], read: Read[T], caller: Caller, first: datetime
    ) -> tuple[list[Envelope], dict[int, ErrorResult]]:
        """Return the events, and the results of the refused requests by position; those are counted."""
        moment = first
        events: list[Envelope] = []
        refused: dict[int, ErrorResult] = {}
        for position, request in enumerate(requests):
            if position:
                moment = stamp(first, position)
            source = ""
            try:
                event = read(request, moment)
                source = event.source
                caller.check_source(source)
            except InvalidEventError as error:
                refused[position] = error_result(error)
                TALLY.add(self._channel, ResultKind.REFUSED, source or error.source, moment)
            else:
                events.append(event)
        return events, refused

    async def _submit(
        self, events: Sequence[Envelope], refused: Mapping[int, ErrorResult], hand_over: HandOver
    ) -> list[Answered]:
        answered: list[Answered] = []
        with TALLY.in_hand:
            for batch in (events,) if len(events) == 1 else self._batches(events):
                results: Sequence[Result]
                try:
                    results = await hand_over(batch)
                except OutcomeUnknownError as error:
                    count_unconfirmed(self._channel, batch)
                    unknown = error_result(error)  # counted, and listed
                    answered += [(event, unknown) for event in batch]
                    continue
                except RetryableError as error:
                    results = [error_result(error)] * len(batch)
                except BaseException:
                    # A drain or a client that goes away ends the wait, or this is a fault of ours.
                    count_unconfirmed(self._channel, batch)
                    raise
                # Before the next await: a drain or a lost client may end the call there.
                for event, result in zip(batch, results, strict=True):
                    TALLY.add(self._channel, result.kind, event.source, event.received_at)
                    answered.append((event, result))
        if not refused:
            return answered
        rest = iter(answered)
        count = len(events) + len(refused)
        return [(None, refused[place]) if place in refused else next(rest) for place in range(count)]

    def _batches(self, events: Sequence[Envelope]) -> Iterator[Sequence[Envelope]]:
        return split_batches(events, events_max=self._batch_events_max, bytes_max=self._batch_bytes_max)
