"""Writes the rows of typed tables, in the transaction of their events."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

import asyncpg

from processor.ledger.rows import WriteItem
from processor.ledger.sqlstates import LEDGER, TYPED, Fault, fault_of, sqlstate_of
from processor.ledger.statements import LIMIT_LOCK_WAITS
from processor.ledger.typed_rows import TypedStatement, TypedTableRows, table_rows
from processor.programs.active import ActivePipeline
from shared.contracts.errors import EtlPayError
from shared.failpoints import failpoint
from shared.pipelines.typed_tables import ROWS_SCHEMA, TypedTable

# What the driver raises for a value that it cannot encode: in COPY as it is, otherwise as class 22.
_UNENCODABLE: Final = (ValueError, OverflowError, TypeError)
_INVALID_VALUE: Final = "22000"
# A constraint that a migration of the user's made. A trigger may give any text as the name of one.
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_CONSTRAINTS: Final = "23"
_STATEMENTS_MAX: Final = 1_000


class TypedRowsError(EtlPayError):
    """Rows of a typed table could not be written. `fault` is EVENT or TABLE.

    Without `pipeline` and `table` it came with the commit, of a constraint that is deferred. `rule` names what refused
    the row, where it has a name.
    """

    def __init__(
        self,
        sqlstate: str,
        fault: Fault,
        *,
        pipeline: ActivePipeline | None = None,
        table: TypedTable | None = None,
        rule: str = "",
    ) -> None:
        """Keep names and the SQLSTATE; the server's own text may quote a value."""
        names = f"SQLSTATE {sqlstate}, {rule}" if rule else f"SQLSTATE {sqlstate}"
        super().__init__(f"{ROWS_SCHEMA}.{table.name if table else '*'} refuses rows ({names})")
        self.sqlstate = sqlstate
        self.fault = fault
        self.pipeline = pipeline
        self.table = table
        self.rule = rule


class TypedWriter:
    """Writes the rows of events to their tables: one statement a table, the tables by their names."""

    def __init__(self, *, copy_rows_min: int, lock_seconds_max: float) -> None:
        """Fewer rows of an `append` table than `copy_rows_min` use INSERT."""
        self._copy_rows_min = copy_rows_min
        self.lock_timeout = str(max(1, int(lock_seconds_max * 1000)))
        """How long a typed statement waits for a lock, in milliseconds, as PostgreSQL reads it."""
        self._statements: dict[tuple[int, str], TypedStatement] = {}

    async def limit_waits(self, connection: asyncpg.Connection) -> datetime:
        """Limit the waits for locks until the end of the transaction; return when it began. Errors of asyncpg."""
        began_at: datetime = (await connection.fetchrow(LIMIT_LOCK_WAITS, self.lock_timeout))["began_at"]
        return began_at

    async def write(self, connection: asyncpg.Connection, items: Sequence[WriteItem], loaded_at: datetime) -> None:
        """Write the rows of events, in a transaction that waits for locks no longer than it may.

        Raises:
            TypedRowsError: a row or a table cannot be written. Otherwise the errors of asyncpg.
        """
        for batch in table_rows(items):
            try:
                await self._write_table(connection, batch, loaded_at)
            except asyncpg.PostgresError as error:
                raise _typed_error(error, batch) or error from None
            except _UNENCODABLE:
                raise TypedRowsError(_INVALID_VALUE, Fault.EVENT, pipeline=batch.pipeline, table=batch.table) from None
            failpoint("processor.table_written")

    async def _write_table(self, connection: asyncpg.Connection, batch: TypedTableRows, loaded_at: datetime) -> None:
        statement = self._statement_of(batch)
        if batch.table.precedence is None and len(batch.rows) >= self._copy_rows_min:
            records = statement.records(batch, loaded_at)
            await connection.copy_records_to_table(
                batch.table.name, schema_name=ROWS_SCHEMA, records=records, columns=statement.columns
            )
        else:
            await connection.execute(statement.text, *statement.parameters(batch))

    def _statement_of(self, batch: TypedTableRows) -> TypedStatement:
        key = (batch.pipeline.id, batch.table.name)
        statement = self._statements.get(key)
        if statement is None or statement.table is not batch.table:
            if len(self._statements) >= _STATEMENTS_MAX:
                self._statements.clear()
            statement = self._statements[key] = TypedStatement(batch.table)
        return statement


@asynccontextmanager
async def with_typed_rows(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Run a transaction that writes typed rows; a constraint that is deferred refuses them at its commit.

    Raises:
        TypedRowsError: at the commit. Otherwise what the body raises, and the errors of asyncpg.
    """
    commits = False
    try:
        async with connection.transaction():
            yield
            failpoint("processor.rows_written")
            commits = True
    except asyncpg.PostgresError as error:
        sqlstate = sqlstate_of(error)
        if not commits or fault_of(sqlstate, writing=LEDGER) is Fault.MOMENT:
            raise
        raise TypedRowsError(sqlstate, fault_of(sqlstate, writing=TYPED)) from None


def _typed_error(error: asyncpg.PostgresError, batch: TypedTableRows) -> TypedRowsError | None:
    """Return the error as that of a table, or None where it concerns the session or the whole database."""
    sqlstate = sqlstate_of(error)
    fault = fault_of(sqlstate, writing=TYPED)
    if fault not in {Fault.EVENT, Fault.TABLE}:
        return None
    return TypedRowsError(sqlstate, fault, pipeline=batch.pipeline, table=batch.table, rule=rule_of(error))


def rule_of(error: asyncpg.PostgresError) -> str:
    """Return the name of the constraint or the column that refuses a row; empty where it has none."""
    if not sqlstate_of(error).startswith(_CONSTRAINTS):
        return ""
    name = error.constraint_name or error.column_name or ""
    return name if _NAME.fullmatch(name) else ""
