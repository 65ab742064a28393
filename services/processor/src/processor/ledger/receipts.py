"""The receipts of the edge services, kept in the ledger beside what they are compared with."""

import asyncpg

from processor.ledger.database import Connections
from processor.ledger.statements import ADD_RECEIPT, ADD_RECEIPT_GAP, ADD_TO_SERIES, ADD_UNCONFIRMED
from shared.contracts.receipt import Progress, Receipt, start_of
from shared.contracts.result import ResultKind


class ReceiptStore:
    """Stores receipts, each once."""

    def __init__(self, connections: Connections) -> None:
        """`connections` are those of etlpay_processor."""
        self._connections = connections

    async def keep(self, receipt: Receipt) -> None:
        """Commit a receipt. Idempotent by instance and number. Raises as `Store.write`."""
        with self._connections.gate:
            async with self._connections.taken() as connection, connection.transaction():
                if receipt.counts:
                    await _add_counts(connection, receipt)
                if receipt.unconfirmed:
                    await _add_unconfirmed(connection, receipt)
                if receipt.progress is not None:
                    await _add_to_series(connection, receipt, receipt.progress)


async def _add_counts(connection: asyncpg.Connection, receipt: Receipt) -> None:
    counts = receipt.counts
    await connection.execute(
        ADD_RECEIPT,
        receipt.instance,
        receipt.number,
        receipt.service,
        [count.source for count in counts],
        [count.channel for count in counts],
        [start_of(count.hour) for count in counts],
        *([count.number(kind) for count in counts] for kind in ResultKind),
        [count.unlisted for count in counts],
    )


async def _add_unconfirmed(connection: asyncpg.Connection, receipt: Receipt) -> None:
    acceptances = receipt.unconfirmed
    await connection.execute(
        ADD_UNCONFIRMED,
        [each.event_id for each in acceptances],
        [each.received_at for each in acceptances],
        [each.channel for each in acceptances],
    )


async def _add_to_series(connection: asyncpg.Connection, receipt: Receipt, progress: Progress) -> None:
    await connection.execute(ADD_RECEIPT_GAP, receipt.instance, receipt.number, progress.taken_at, progress.began_at)
    await connection.execute(
        ADD_TO_SERIES,
        receipt.instance,
        receipt.number,
        receipt.service,
        progress.channel,
        progress.interval_seconds,
        progress.open_since,
        progress.taken_at,
        progress.closing,
    )
