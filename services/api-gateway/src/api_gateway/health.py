"""Watches what the gateway needs, so that /readyz is right within seconds."""

import asyncio
from typing import Final

from api_gateway.queries.ledger import Ledger
from shared.auth.authenticator import KEYS, Access
from shared.cache import Cache
from shared.messaging.publisher import READY as RABBITMQ
from shared.runtime.readiness import Readiness
from shared.submit.processing import GrpcProcessing

INTAKE: Final = "intake"
_ANSWER_SECONDS_MAX: Final = 2.0


class ReadinessMonitor:
    """Ready means: an event that comes now can be made durable, over one of the two transports.

    gRPC takes the processor and PostgreSQL; the queue takes RabbitMQ, if falling back is allowed. If API keys are
    required, they must be fresh. Everything else is reported only.
    """

    def __init__(  # noqa: PLR0913 - everything that is watched
        self,
        readiness: Readiness,
        *,
        processing: GrpcProcessing,
        ledger: Ledger,
        cache: Cache,
        broker: Readiness,
        access: Access,
        fallback_to_queue: bool,
    ) -> None:
        """`broker` is the readiness of the publisher's connection."""
        self._readiness = readiness
        self._processing = processing
        self._ledger = ledger
        self._cache = cache
        self._broker = broker
        self._access = access
        self._fallback_to_queue = fallback_to_queue

    async def look(self) -> None:
        """Check everything once, and report it."""
        processor, rabbitmq, epoch = self._processing.connected, self._broker.ready, await self._epoch()
        # Without a ledger it is unknown whether the cache is of the same one.
        self._cache.turn_to(epoch)
        await self._cache.look()
        postgres = epoch is not None
        report = self._readiness.set_optional
        report("processor", present=processor)
        report("postgres", present=postgres)
        report(RABBITMQ, present=rabbitmq)
        report("redis", present=self._cache.present)
        intake = (processor and postgres) or (rabbitmq and self._fallback_to_queue)
        self._readiness.set(INTAKE, present=intake)
        keys_count = self._access.look()
        if self._access.asks_for_keys:
            self._readiness.set(KEYS, present=keys_count)

    async def _epoch(self) -> str | None:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS_MAX):
                return await self._ledger.epoch()
        except TimeoutError:
            return None
