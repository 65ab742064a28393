"""The receipts of the doors, kept in the ledger beside what they are compared with."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from processor.database import LEDGER_ERRORS, classified
from processor.statements import ADD_RECEIPT
from shared.contracts.receipt import Count, Fate, Receipt, start_of


class ReceiptBook:
    """Writes receipts, each once."""

    def __init__(self, engine: AsyncEngine) -> None:
        """`engine` connects as etlpay_processor."""
        self._engine = engine

    async def keep(self, receipt: Receipt) -> None:
        """Commit a receipt. Idempotent by its instance and number. Raises as `Store.write`."""
        try:
            columns = _columns(receipt.counts)
            async with self._engine.begin() as connection:
                await connection.execute(
                    ADD_RECEIPT,
                    {"instance": receipt.instance, "number": receipt.number, "service": receipt.service} | columns,
                )
        except LEDGER_ERRORS as error:
            raise classified(error) from error


def _columns(counts: Sequence[Count]) -> dict[str, Any]:
    return {
        "source": [count.source for count in counts],
        "channel": [count.channel for count in counts],
        "hour": [start_of(count.hour) for count in counts],
        **{fate.name.lower(): [count.fates[fate] for count in counts] for fate in Fate},
    }
