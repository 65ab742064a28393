"""What pipelines do not read, added to the ledger in portions."""

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

import msgspec

from processor.ledger.database import Connections
from processor.ledger.statements import ADD_DRIFTS
from shared.contracts.drift import DriftKind
from shared.contracts.receipt import start_of


class DriftKey(NamedTuple):
    """What is counted: `pipeline_id` is a version, `hour` that of arrival, counted from 1970-01-01T00Z."""

    pipeline_id: int
    hour: int
    kind: DriftKind
    place: str


class DriftCount(msgspec.Struct):
    """How many events, and the id of the last of them in the ledger."""

    events: int = 0
    example: int = 0


class DriftStore:
    """Adds portions of counts, each once."""

    def __init__(self, connections: Connections) -> None:
        """`connections` are those of etlpay_processor."""
        self._connections = connections

    async def add(self, instance: UUID, number: int, counts: Mapping[DriftKey, DriftCount]) -> None:
        """Commit a portion. Idempotent by instance and number, which grows. Raises as `Store.write`.

        `instance`: the process.
        """
        with self._connections.gate:
            async with self._connections.taken() as connection:
                await connection.execute(
                    ADD_DRIFTS,
                    instance,
                    number,
                    [key.pipeline_id for key in counts],
                    [key.kind for key in counts],
                    [key.place for key in counts],
                    [start_of(key.hour) for key in counts],
                    [count.events for count in counts.values()],
                    [count.example for count in counts.values()],
                )
