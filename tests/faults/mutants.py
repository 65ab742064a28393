"""EtlPay broken on purpose, from outside: `python -m faults.mutants NAME` runs a processor with one promise taken out.

A harness that passes these would pass anything.
"""

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

import processor.__main__ as program
from etlpay_cli.local.program import Program
from processor import consumer, pipeline, store
from processor.statements import ADD_EVENTS
from processor.transform import Draft
from processor.transform import transform as plain_transform
from shared.contracts.errors import PermanentError
from shared.contracts.event import Envelope
from shared.contracts.outcome import Disposition, Outcome
from shared.failpoints import failpoint
from shared.messaging.consumer import Delivery
from shared.wire import decode_batch

_TESTS: Final = Path(__file__).resolve().parents[1]


def mutated(plain: Program, name: str) -> Program:
    """Return the processor's program with a mutation."""
    return replace(
        plain,
        command=(sys.executable, "-m", "faults.mutants", name),
        environment={**plain.environment, "PYTHONPATH": os.pathsep.join((str(_TESTS), *_path(plain)))},
    )


def _path(plain: Program) -> list[str]:
    given = plain.environment.get("PYTHONPATH", "")
    return [given] if given else []


def _ack_before_commit() -> None:
    async def settle(delivery: Delivery, save: Callable[[list[Envelope]], Awaitable[None]]) -> None:
        await delivery.ack()
        try:
            await save(decode_batch(delivery.body))
        except PermanentError:
            return

    vars(consumer)["_settle"] = settle


def _no_unique_key() -> None:
    """The constraint is dropped by the test, and with it the clause that needs one."""
    plain = str(ADD_EVENTS)
    without = plain.replace("ON CONFLICT (event_id) DO NOTHING", "")
    if without == plain:
        raise AssertionError("the statement is another one now")
    vars(store)["ADD_EVENTS"] = text(without)


def _key_in_second_transaction() -> None:
    """The raw event is committed by itself, and the record that belongs to it by itself."""
    first, _, second = str(ADD_EVENTS).rpartition("INSERT INTO processed_records")
    only_raw = text(first + " SELECT id FROM stored")  # noqa: S608 - parts of our own statement
    inputs = first[: first.index(", stored AS (")]
    records = second.replace("JOIN stored USING (id)", "WHERE id = ANY(CAST(:new AS bigint[]))")
    only_records = text(f"{inputs} INSERT INTO processed_records {records}")

    async def insert(
        self: store.Store, connection: AsyncConnection, numbered: Sequence[store._Numbered], processed_at: datetime
    ) -> dict[UUID, Outcome]:
        columns = self._columns(numbered)
        async with self._engine.begin() as other:
            new = list(await other.scalars(only_raw, columns))
        failpoint("mutant.between_transactions")
        await connection.execute(only_records, {**columns, "processed_at": processed_at, "new": new})
        return {
            each.entry.event.event_id: Outcome(
                disposition=Disposition.STORED,
                raw_event_id=each.id,
                record_id=each.id,
                status=each.entry.draft.status,
                processed_at=processed_at,
            )
            for each in numbered
            if each.id in set(new)
        }

    store.Store._insert = insert  # type: ignore[method-assign] # broken on purpose


def _poison() -> None:
    """No mutant, but a bug that nobody has found yet: one content on which the process dies."""
    plain = plain_transform
    poison = os.environ["FAULTS_POISON"].encode()  # noqa: TID251 - a program of the tests' own

    def transform(event: Envelope) -> Draft:
        if poison in event.body:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(event)

    vars(pipeline)["transform"] = transform


_MUTATIONS: Final = {
    "ack-before-commit": _ack_before_commit,
    "no-unique-key": _no_unique_key,
    "key-in-second-transaction": _key_in_second_transaction,
    "poison": _poison,
}


if __name__ == "__main__":
    _MUTATIONS[sys.argv[1]]()
    sys.exit(program.main())
