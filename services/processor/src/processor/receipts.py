"""The receipts of the doors, kept in the ledger beside what they are compared with."""

from processor.database import Connections
from processor.statements import ADD_RECEIPT
from shared.contracts.receipt import Fate, Receipt, start_of


class ReceiptBook:
    """Writes receipts, each once."""

    def __init__(self, connections: Connections) -> None:
        """`connections` are those of etlpay_processor."""
        self._connections = connections

    async def keep(self, receipt: Receipt) -> None:
        """Commit a receipt. Idempotent by its instance and number. Raises as `Store.write`."""
        counts = receipt.counts
        with self._connections.gate:
            async with self._connections.taken() as connection:
                await connection.execute(
                    ADD_RECEIPT,
                    receipt.instance,
                    receipt.number,
                    receipt.service,
                    [count.source for count in counts],
                    [count.channel for count in counts],
                    [start_of(count.hour) for count in counts],
                    *([count.fates[fate] for count in counts] for fate in Fate),
                )
