"""The cache: records and sources in Redis or Valkey. A hint only: every call fails open, within its deadline."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Self, TypeVar
from uuid import UUID

import msgspec
import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from shared.contracts.record import Record, Source
from shared.settings import RedisSettings

T = TypeVar("T")

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SOURCES_KEY: Final = "etlpay:sources"
_SOURCES_SECONDS: Final = 5
_RECORD_BYTES_MAX: Final = 64 * 1024
_QUEUED: Final = b"queued "

_encode = msgspec.json.encode
_read_record = msgspec.json.Decoder(Record).decode
_read_sources = msgspec.json.Decoder(list[Source]).decode


class Cache:
    """Reads answer None, and writes do nothing, when the cache is away, slow, or holds what cannot be read."""

    def __init__(self, redis: Redis | None, *, seconds: int) -> None:
        """`seconds` is how long a record is kept; without a `redis` the cache is always empty."""
        self._redis = redis
        self._seconds = seconds
        self.present = redis is not None

    @classmethod
    def connect(cls, settings: RedisSettings) -> Self:
        """Return the cache that the settings name; it connects at the first call."""
        if not settings.redis_url:
            return cls(None, seconds=settings.cache_seconds)
        redis = Redis.from_url(
            settings.redis_url,
            socket_timeout=settings.redis_seconds_max,
            socket_connect_timeout=settings.redis_seconds_max,
            retry=Retry(NoBackoff(), 0),
        )
        return cls(redis, seconds=settings.cache_seconds)

    async def record_of_event(self, event_id: UUID) -> Record | None:
        """Return the record of an event."""
        found = await self._get(f"etlpay:event:{event_id}")
        return None if found is None or found.startswith(_QUEUED) else _readable(_read_record, found)

    async def record(self, record_id: int) -> Record | None:
        """Return a record by its id."""
        found = await self._get(f"etlpay:record:{record_id}")
        return None if found is None else _readable(_read_record, found)

    async def source_of_queued(self, event_id: UUID) -> str | None:
        """Return the source of an event that was noted as handed to the queue and not yet as stored, or None."""
        found = await self._get(f"etlpay:event:{event_id}")
        if found is None or not found.startswith(_QUEUED):
            return None
        return _readable(bytes.decode, found.removeprefix(_QUEUED))

    async def sources(self) -> list[Source] | None:
        """Return every source."""
        found = await self._get(_SOURCES_KEY)
        return None if found is None else _readable(_read_sources, found)

    async def put_records(self, records: Sequence[Record]) -> None:
        """Keep fresh records, under their event's id and their own."""
        if self._redis is None:
            return
        async with self._redis.pipeline(transaction=False) as pipeline:
            for record in records:
                value = _encode(record)
                if len(value) <= _RECORD_BYTES_MAX:
                    pipeline.set(f"etlpay:event:{record.event_id}", value, ex=self._seconds)
                    pipeline.set(f"etlpay:record:{record.id}", value, ex=self._seconds)
            await self._attempt(pipeline.execute())

    async def put_queued(self, events: Sequence[tuple[UUID, str]]) -> None:
        """Note that events, with their sources, were handed to the queue; never over a record that is there already."""
        if self._redis is None:
            return
        async with self._redis.pipeline(transaction=False) as pipeline:
            for event_id, source in events:
                pipeline.set(f"etlpay:event:{event_id}", _QUEUED + source.encode(), ex=self._seconds, nx=True)
            await self._attempt(pipeline.execute())

    async def put_sources(self, sources: Sequence[Source]) -> None:
        """Keep the list of sources for a few seconds."""
        if self._redis is not None:
            await self._attempt(self._redis.set(_SOURCES_KEY, _encode(sources), ex=_SOURCES_SECONDS))

    async def forget_sources(self) -> None:
        """Drop the list of sources: there is a new one."""
        if self._redis is not None:
            await self._attempt(self._redis.delete(_SOURCES_KEY))

    async def close(self) -> None:
        """Give the connections back."""
        if self._redis is not None:
            await self._redis.aclose()

    async def _get(self, key: str) -> bytes | None:
        if self._redis is None:
            return None
        # Without decode_responses the client answers bytes; its types do not say so.
        found = await self._attempt(self._redis.get(key))
        return found if isinstance(found, bytes) else None

    async def _attempt(self, call: Awaitable[T]) -> T | None:
        try:
            answer = await call
        except (RedisError, OSError, TimeoutError) as error:
            log.debug("cache missed a call; nothing depends on it", error=type(error).__name__)
            self.present = False
            return None
        self.present = True
        return answer


def _readable(read: Callable[[bytes], T], found: bytes) -> T | None:
    try:
        return read(found)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
