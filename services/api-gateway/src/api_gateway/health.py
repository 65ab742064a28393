"""Watching what the gateway needs, so that /readyz tells within seconds."""

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
    """Ready means: an event that comes now can be made durable, over one of the two roads.

    Over the processor it takes the processor and PostgreSQL; over the queue it takes RabbitMQ, where falling back is
    allowed. Where API keys are asked for, they must count. Everything else is shown and not needed.
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
        """`broker` is what the publisher tells of its connection."""
        self._readiness = readiness
        self._processing = processing
        self._ledger = ledger
        self._cache = cache
        self._broker = broker
        self._access = access
        self._fallback_to_queue = fallback_to_queue

    async def look(self) -> None:
        """Find out what is present, and report it."""
        processor, rabbitmq, epoch = self._processing.connected, self._broker.ready, await self._epoch()
        # Without a ledger nobody can tell of which one the cache speaks.
        self._cache.turn_to(epoch)
        await self._cache.look()
        postgres = epoch is not None
        tell = self._readiness.set_optional
        tell("processor", present=processor)
        tell("postgres", present=postgres)
        tell(RABBITMQ, present=rabbitmq)
        tell("redis", present=self._cache.present)
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
