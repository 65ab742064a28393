"""The cache of records, in Redis or Valkey. It is optional: a call that fails or is late counts as a miss.

Entries are signed, so that a manipulated cache is an empty one: see `shared.signing`.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Self, TypeVar
from uuid import UUID

import msgspec
import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from shared.contracts.record import Record
from shared.settings import RedisSettings
from shared.signing import Signer
from shared.tls import client_context

T = TypeVar("T")

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_RECORD_BYTES_MAX: Final = 64 * 1024
# A record contains both of its ids, so it is signed once and stored under both.
_A_RECORD: Final = "record"

_encode = msgspec.json.encode
_read_record = msgspec.json.Decoder(Record).decode


class Cache:
    """Reads return None, and writes do nothing, while the cache is unavailable or slow, or holds invalid entries.

    So they do until `turn_to` has set the epoch of the ledger.
    """

    def __init__(
        self, redis: Redis | None, *, seconds: int, key: str = "", clock: Callable[[], float] = time.time
    ) -> None:
        """`seconds` is how long an entry is kept. Without `redis` the cache is always empty."""
        self._redis = redis
        self._seconds = seconds
        self._key = key
        self._clock = clock
        self._signer: Signer | None = None
        self.epoch: str | None = None
        self.present = redis is not None

    @classmethod
    def connect(cls, settings: RedisSettings) -> Self:
        """Return the cache that the settings name; it connects at the first call.

        Raises:
            FatalError: the TLS files cannot be used.
        """
        key = settings.cache_key.get_secret_value()
        if settings.redis_url and not key:
            log.warning("the cache is not used: its entries could be forged; set ETLPAY_CACHE_KEY_FILE")
        if not (settings.redis_url and key):
            return cls(None, seconds=settings.cache_seconds)
        redis = Redis.from_url(
            settings.redis_url,
            password=settings.redis_password.get_secret_value() or None,
            socket_timeout=settings.redis_seconds_max,
            socket_connect_timeout=settings.redis_seconds_max,
            retry=Retry(NoBackoff(), 0),
            **_tls_options(settings),
        )
        return cls(redis, seconds=settings.cache_seconds, key=key)

    def turn_to(self, epoch: str | None) -> None:
        """Use entries of the ledger with this epoch only (see `shared.postgres.LEDGER_EPOCH`); None: it is unknown."""
        if epoch != self.epoch:
            self.epoch = epoch
            self._signer = Signer(self._key, epoch) if epoch is not None and self._redis is not None else None

    async def record_of_event(self, event_id: UUID) -> Record | None:
        """Return the record of an event."""
        record = await self._get_record(f"etlpay:event:{event_id}")
        return record if record is not None and record.event_id == event_id else None

    async def record(self, record_id: int) -> Record | None:
        """Return a record by its id."""
        record = await self._get_record(f"etlpay:record:{record_id}")
        return record if record is not None and record.id == record_id else None

    async def source_of_queued(self, event_id: UUID) -> str | None:
        """Return the source of an event that is queued and, as far as known, not stored yet; or None."""
        found = await self._get(f"etlpay:event:{event_id}", _queued(event_id))
        return None if found is None else found.decode()

    async def put_records(self, records: Sequence[Record], *, epoch: str | None) -> None:
        """Write records, under their event's id and their own.

        `epoch` is the cache's epoch from *before* the records were read from the ledger, or written to it. If it has
        changed since, the records may belong to a former ledger and are not written.
        """
        if self._redis is None or self._signer is None or epoch != self.epoch:
            return
        expires_at = self._expiry()
        async with self._redis.pipeline(transaction=False) as pipeline:
            for record in records:
                value = _encode(record)
                if len(value) <= _RECORD_BYTES_MAX:
                    entry = self._signer.sign(_A_RECORD, value, expires_at=expires_at)
                    pipeline.set(f"etlpay:event:{record.event_id}", entry, ex=self._seconds)
                    pipeline.set(f"etlpay:record:{record.id}", entry, ex=self._seconds)
            await self._attempt(pipeline.execute())

    async def put_queued(self, events: Sequence[tuple[UUID, str]]) -> None:
        """Note that events, with their sources, are queued. A record that exists already is not overwritten."""
        if self._redis is None or self._signer is None:
            return
        expires_at = self._expiry()
        async with self._redis.pipeline(transaction=False) as pipeline:
            for event_id, source in events:
                entry = self._signer.sign(_queued(event_id), source.encode(), expires_at=expires_at)
                pipeline.set(f"etlpay:event:{event_id}", entry, ex=self._seconds, nx=True)
            await self._attempt(pipeline.execute())

    async def look(self) -> None:
        """Set `present`."""
        if self._redis is not None:
            await self._attempt(self._redis.ping())

    async def close(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            await self._redis.aclose()

    async def _get_record(self, name: str) -> Record | None:
        found = await self._get(name, _A_RECORD)
        return None if found is None else _readable(found)

    async def _get(self, name: str, subject: str) -> bytes | None:
        """Return the value under a name if one of our services wrote it for the subject."""
        if self._redis is None or self._signer is None:
            return None
        # Without decode_responses the client returns bytes, unlike its types.
        found = await self._attempt(self._redis.get(name))
        # The epoch may have changed meanwhile.
        if self._signer is None or not isinstance(found, bytes):
            return None
        return self._signer.verified(subject, found, at=int(self._clock()))

    def _expiry(self) -> int:
        return int(self._clock()) + self._seconds

    async def _attempt(self, call: Awaitable[T]) -> T | None:
        try:
            answer = await call
        except (RedisError, OSError, TimeoutError) as error:
            log.debug("cache missed a call; nothing depends on it", error=type(error).__name__)
            self.present = False
            return None
        self.present = True
        return answer


def _queued(event_id: UUID) -> str:
    return f"queued {event_id}"


def _readable(found: bytes) -> Record | None:
    """Return the record; None if another release has written it in another format."""
    try:
        return _read_record(found)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _tls_options(settings: RedisSettings) -> dict[str, Any]:
    """Return the TLS options of the client library. Raises FatalError if the files cannot be used."""
    files = settings.redis_tls
    if client_context(files) is None:
        return {}
    return {
        "ssl_ca_certs": files.ca_file,
        "ssl_certfile": files.cert_file or None,
        "ssl_keyfile": files.key_file or None,
        "ssl_check_hostname": True,
    }
