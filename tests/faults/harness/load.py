"""The load of a case: producers on all four channels, each event sent until it is answered, and readers."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Final

from faults.harness.deadlines import ANSWER_SECONDS_MAX, BATCH_SECONDS_MAX, CLIENT_SECONDS_MAX, READING_SECONDS_MAX
from faults.harness.journal import Attempt, Journal, Sent, Version
from faults.harness.producers import FileProducer, GrpcProducer, HttpProducer, Producer, QueueProducer
from faults.harness.readers import Reader
from faults.harness.world import Place
from support.waiting import until_true

_PAUSE_SECONDS: Final = 0.15
_BATCH: Final = 25
_DUPLICATES: Final = 0.02
_CONFLICTS: Final = 0.01
_INVALID: Final = 0.01


class Load:
    """All producers and readers of one case, and when they may stop."""

    def __init__(self, world: Place, journal: Journal, *, events: int, seed: int) -> None:
        """`events` is how many there are at least, over all channels."""
        self.world = world
        self.journal = journal
        self.quota = events // 4
        self.random = random.Random(seed)  # noqa: S311 - a seeded test, not a secret
        self.enough = asyncio.Event()
        self.channels: frozenset[str] = frozenset({"http", "grpc", "file", "queue"})
        self.pause_seconds = 0.02
        self.burst = asyncio.Event()
        self.calls_in_flight = 0
        self._may_send = asyncio.Event()
        self._may_send.set()
        self.answer_seconds_max: float | None = ANSWER_SECONDS_MAX
        """None where callers may have to wait for each other."""
        self.batch_seconds_max: float | None = BATCH_SECONDS_MAX
        self.reading_seconds_max: float | None = READING_SECONDS_MAX

    async def run(self) -> None:
        """Return when `enough` is set, every producer has sent its share, and every event was answered."""
        makers = {"http": HttpProducer, "grpc": GrpcProducer, "queue": QueueProducer, "file": FileProducer}
        async with asyncio.TaskGroup() as group:
            for channel, maker in makers.items():
                if channel in self.channels:
                    group.create_task(self._produce(channel, maker(self)))
            group.create_task(Reader(self).run())

    async def flowing(self, seconds_max: float = 20.0) -> None:
        """Return when events have been taken for a moment on every channel."""
        wanted = {f"{self.journal.source}.{channel}" for channel in self.channels}
        await until_true(lambda: wanted <= {sent.source for sent in self.journal.acknowledged()}, seconds_max)

    @contextlib.asynccontextmanager
    async def silence(self) -> AsyncIterator[None]:
        """Let no producer send until the block ends; it begins when every call is answered."""
        self._may_send.clear()
        try:
            await until_true(lambda: self.calls_in_flight == 0, CLIENT_SECONDS_MAX)
            yield
        finally:
            self._may_send.set()

    async def _produce(self, channel: str, producer: Producer) -> None:
        async with producer, asyncio.TaskGroup() as calls:
            places = asyncio.Semaphore(producer.calls_at_once)
            made = 0
            while made < self.quota or not self.enough.is_set():
                await places.acquire()
                attempts = self._next(channel, producer)
                made += len(attempts)
                calls.create_task(self._deliver(producer, attempts, places))
                if self.burst.is_set():
                    # A burst: callers do not wait for each other.
                    places.release()
                # Slow at first sight, so that the fault meets traffic from its beginning to its end.
                await asyncio.sleep(
                    self.pause_seconds if self.burst.is_set() or made < 3 * self.quota else 10 * self.pause_seconds
                )

    def _next(self, channel: str, producer: Producer) -> list[Attempt]:
        count = 1 if self.random.random() < producer.singles else _BATCH
        attempts = []
        for _ in range(count):
            sent = self.journal.new(channel, valid=self.random.random() >= _INVALID)
            producer.finish(sent)
            attempts.append(Attempt(sent, sent.first))
        return attempts

    async def _deliver(self, producer: Producer, attempts: list[Attempt], places: asyncio.Semaphore) -> None:
        try:
            await self._until_answered(producer, attempts)
            again = [attempt for attempt in attempts if attempt.sent.key and self.random.random() < _DUPLICATES]
            others = [self._contradict(attempt.sent) for attempt in attempts if self._may_contradict(attempt)]
            if again and producer.may_repeat:
                await self._until_answered(producer, again, repeat=True)
            if others and producer.may_repeat:
                await self._until_answered(producer, others)
        finally:
            places.release()

    def _may_contradict(self, attempt: Attempt) -> bool:
        sent = attempt.sent
        return sent.valid and bool(sent.key) and not sent.becomes_failed and self.random.random() < _CONFLICTS

    def _contradict(self, sent: Sent) -> Attempt:
        version = Version(self.journal.content())
        sent.versions.append(version)
        return Attempt(sent, version)

    async def _until_answered(self, producer: Producer, attempts: list[Attempt], *, repeat: bool = False) -> None:
        open_attempts = attempts
        while open_attempts:
            answers_before = [attempt.version.answer for attempt in open_attempts]
            answered = await self._send(producer, open_attempts)
            if repeat and answered:
                return
            open_attempts = [
                attempt
                for attempt, before in zip(open_attempts, answers_before, strict=True)
                if attempt.version.answer is None or (repeat and attempt.version.answer is before and not answered)
            ]
            if open_attempts:
                await asyncio.sleep(_PAUSE_SECONDS * (0.5 + self.random.random()))

    async def _send(self, producer: Producer, attempts: list[Attempt]) -> bool:
        await self._may_send.wait()
        self.calls_in_flight += 1
        try:
            self.journal.expect(attempts)
            answered = await producer.send(attempts)
            self.journal.note(attempts)
        finally:
            self.calls_in_flight -= 1
        return answered
