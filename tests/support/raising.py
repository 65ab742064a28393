"""A ledger on a real PostgreSQL whose tables raise any SQLSTATE that a test wants."""

from typing import Self

import asyncpg

# Raises the state that a table names, for what the table says.
RAISE = """
    CREATE TABLE raised (sqlstate text, only_body bytea, only_success boolean);
    CREATE FUNCTION raise_for_test() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    DECLARE wanted raised%ROWTYPE;
    BEGIN
        SELECT * INTO wanted FROM raised;
        IF NOT FOUND THEN RETURN NEW; END IF;
        IF TG_TABLE_NAME = 'processed_records' THEN
            IF wanted.only_success AND NEW.status = 1 THEN RAISE EXCEPTION USING ERRCODE = wanted.sqlstate; END IF;
        ELSIF NOT wanted.only_success AND (wanted.only_body IS NULL OR NEW.body = wanted.only_body) THEN
            RAISE EXCEPTION USING ERRCODE = wanted.sqlstate;
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER raise_for_test BEFORE INSERT ON raw_events FOR EACH ROW EXECUTE FUNCTION raise_for_test();
    CREATE TRIGGER raise_for_test BEFORE INSERT ON processed_records FOR EACH ROW EXECUTE FUNCTION raise_for_test();
"""
NO_MORE = """
    DROP TRIGGER IF EXISTS raise_for_test ON raw_events;
    DROP TRIGGER IF EXISTS raise_for_test ON processed_records;
    DROP FUNCTION IF EXISTS raise_for_test; DROP TABLE IF EXISTS raised;
"""


class Raising:
    """Triggers on the tables of events and records."""

    def __init__(self, owner: asyncpg.Connection) -> None:
        self._owner = owner

    async def __aenter__(self) -> Self:
        await self._owner.execute(NO_MORE)
        await self._owner.execute(RAISE)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._owner.execute(NO_MORE)

    async def tell(self, sqlstate: str, *, only_body: bytes | None = None, only_success: bool = False) -> None:
        """Raise an SQLSTATE: for events of one body, or for records that are SUCCESS, or for every event."""
        await self.calm()
        await self._owner.execute("INSERT INTO raised VALUES ($1, $2, $3)", sqlstate, only_body, only_success)

    async def calm(self) -> None:
        """Raise nothing."""
        await self._owner.execute("TRUNCATE raised")
