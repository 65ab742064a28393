"""EtlPay broken on purpose: `python -m faults.harness.mutants NAME` runs a service without one promise.

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

import asyncpg
import msgspec

import file_watcher.__main__ as watcher_program
import processor.__main__ as processor_program
from etlpay_cli.local.program import Program
from etlpay_cli.reconcile import Report, reconcile
from file_watcher.identity import Identity
from file_watcher.spool.claims import ClaimedFile, ClaimNote, NoteFile
from processor.inputs import queues
from processor.ledger import copy, typed_rows
from processor.ledger.rows import Processed, Table, WriteItem, insert_parameters, insert_statement
from processor.programs.active import ActiveSet
from processor.stages import processing
from processor.stages.transform import transform as plain_transform
from shared.contracts.audit import AuditPage
from shared.contracts.errors import PermanentError
from shared.contracts.event import Envelope
from shared.failpoints import failpoint
from shared.files.content import Extent
from shared.files.reading import FileKind
from shared.messaging.consumer import Delivery
from shared.pipelines.typed_tables import TypedTable
from shared.wire import decode_batch

_TESTS: Final = Path(__file__).resolve().parents[2]


def mutated(plain: Program, name: str) -> Program:
    """Return the program of the service that a mutation is made for, with it."""
    return replace(
        plain,
        command=(sys.executable, "-m", "faults.harness.mutants", name),
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

    vars(queues)["_settle"] = settle


def _no_unique_key() -> None:
    """The constraint is dropped by the test, and with it the clause that needs one."""

    def without_key(tables: tuple[Table, ...], *, before_typed_rows: bool = False) -> str:
        statement = insert_statement(tables, before_typed_rows=before_typed_rows)
        without = statement.replace("ON CONFLICT (event_id) DO NOTHING", "")
        if without == statement:
            raise AssertionError("the statement is another one now")
        return without

    vars(copy)["insert_statement"] = without_key


def _key_in_second_transaction() -> None:
    """The raw event is committed by itself, and the record that belongs to it by itself."""

    async def add_events(
        self: copy.RowWriter, connection: asyncpg.Connection, items: Sequence[WriteItem], processed_at: datetime
    ) -> set[int]:
        raw, (records, rows) = self._rows_of(items, processed_at)
        statement = insert_statement((raw.table,))
        new = {row[0] for row in await connection.fetch(statement, *insert_parameters([raw]))}
        failpoint("mutant.between_transactions")
        of_new = [row for row in rows if row[0] in new]
        await connection.copy_records_to_table(records.name, records=of_new, columns=records.names)
        return new

    copy.RowWriter.add_events = add_events  # type: ignore[method-assign] # broken on purpose


def _rows_in_second_transaction() -> None:
    """An event and its record are committed by themselves, and the rows that belong to them afterwards."""

    async def add(
        self: copy.RowWriter, connection: asyncpg.Connection, items: Sequence[WriteItem], processed_at: datetime
    ) -> set[int]:
        new = await self.add_events(connection, items, processed_at)
        failpoint("mutant.between_transactions")
        async with connection.transaction():
            await self.add_typed_rows(connection, items, new)
        return new

    copy.RowWriter._add_with_typed_rows = add  # type: ignore[method-assign] # broken on purpose


def _upsert_without_guard() -> None:
    """The row of a key is that of the batch which came last."""
    plain = typed_rows._on_conflict

    def without_guard(table: TypedTable) -> str:
        assigned, guard, _ = plain(table).partition(" WHERE ")
        if not guard:
            raise AssertionError("the statement is another one now")
        return assigned

    vars(typed_rows)["_on_conflict"] = without_guard


def net(pages: Sequence[AuditPage]) -> Report:
    """Reconcile as an audit that nets: a surplus is set off against what is missing."""
    report = reconcile(pages)
    findings = [msgspec.structs.replace(finding, doubts=[]) for finding in report.findings]
    return msgspec.structs.replace(report, findings=findings, doubts=[])


def _poison() -> None:
    """Not a mutant: a bug that ends the process on one content."""
    plain = plain_transform
    poison = os.environ["FAULTS_POISON"].encode()  # noqa: TID251 - a program of the tests' own

    def transform(event: Envelope, pipelines: ActiveSet, *, acknowledged: bool = False) -> Processed:
        if poison in event.body:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(event, pipelines, acknowledged=acknowledged)

    vars(processing)["transform"] = transform


def _fingerprint_in_memory() -> None:
    """What names a file's rows is known to its watcher, and never written down."""

    def write(self: NoteFile, value: ClaimNote, *, durable: bool = True) -> None:  # noqa: ARG001 - as the real one
        self.value = value

    NoteFile.write = write  # type: ignore[method-assign] # broken on purpose


def _packed_identity() -> None:
    """A file's rows are named by its packed bytes."""
    plain = Identity._measure

    def measure(self: Identity, claimed: ClaimedFile, kind: FileKind, *, packed: bool = True) -> Extent:
        return plain(self, claimed, kind, packed=packed)

    Identity._measure = measure  # type: ignore[method-assign] # broken on purpose


_OF_PROCESSOR: Final = {
    "ack-before-commit": _ack_before_commit,
    "no-unique-key": _no_unique_key,
    "key-in-second-transaction": _key_in_second_transaction,
    "rows-in-second-transaction": _rows_in_second_transaction,
    "upsert-without-guard": _upsert_without_guard,
    "poison": _poison,
}
_OF_FILE_WATCHER: Final = {
    "fingerprint-in-memory": _fingerprint_in_memory,
    "packed-identity": _packed_identity,
}


def main(name: str) -> int:
    """Run the service with the mutation; return its exit code."""
    # Services have arguments of their own.
    del sys.argv[1:]
    if name in _OF_FILE_WATCHER:
        _OF_FILE_WATCHER[name]()
        return watcher_program.main()
    _OF_PROCESSOR[name]()
    return processor_program.main()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
