"""An error of the database means what its SQLSTATE says, never what its text says."""

import asyncpg
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

from processor.ledger.database import REVISION
from processor.ledger.sqlstates import (
    ANY,
    LEDGER,
    LEDGER_FAILED,
    LedgerRefusesError,
    OutdatedError,
    PermanentDataError,
    RuleError,
    classified,
)
from processor.migrate import migrations
from shared.contracts.errors import EtlPayError, FatalError, RetryableError, UnavailableError


def database_error(sqlstate: str) -> asyncpg.PostgresError:
    """Return the error as asyncpg raises it."""
    error: asyncpg.PostgresError = asyncpg.PostgresError.new({"C": sqlstate, "M": "secret-payload"})
    return error


@pytest.mark.parametrize(
    ("sqlstate", "meaning"),
    [
        # The event's.
        ("22P05", PermanentDataError),
        ("22003", PermanentDataError),
        ("54000", PermanentDataError),
        ("54001", PermanentDataError),
        ("23502", PermanentDataError),
        ("23514", PermanentDataError),
        # The moment's.
        ("08006", UnavailableError),
        ("25P02", UnavailableError),
        ("25P03", UnavailableError),
        ("25006", UnavailableError),
        ("26000", UnavailableError),
        ("40001", UnavailableError),
        ("40P01", UnavailableError),
        ("42P05", UnavailableError),
        ("53100", UnavailableError),
        ("53300", UnavailableError),
        ("55P03", UnavailableError),
        ("57P01", UnavailableError),
        ("57014", UnavailableError),
        ("58030", UnavailableError),
        ("XX000", UnavailableError),
        # What is remembered here is old.
        ("23503", OutdatedError),
        ("23505", OutdatedError),
        # Somebody added a rule.
        ("P0001", RuleError),
        ("23P01", RuleError),
        # Ours, or the operator's.
        ("42501", LedgerRefusesError),
        ("42P01", LedgerRefusesError),
        ("28P01", LedgerRefusesError),
        ("3D000", LedgerRefusesError),
        ("2200H", LedgerRefusesError),
        ("XX001", LedgerRefusesError),
        ("ZZ999", LedgerRefusesError),
    ],
)
def test_the_sqlstate_says_what_is_done(sqlstate: str, meaning: type[EtlPayError]) -> None:
    assert type(classified(database_error(sqlstate))) is meaning


def test_a_limit_of_the_server_is_no_fault_of_an_event_of_which_only_the_bytes_are_stored() -> None:
    """Transaction ids that run out have the same SQLSTATE as a document that is too large."""
    problem = classified(database_error("54000"), writing=LEDGER_FAILED)

    assert type(problem) is UnavailableError


@pytest.mark.parametrize("writing", [ANY, LEDGER, LEDGER_FAILED])
def test_no_sqlstate_ends_the_process(writing: str) -> None:
    """Each end would cost everything in hand one of its deliveries."""
    known = [state for state in asyncpg.PostgresError._message_map if isinstance(state, str)]

    ends = [state for state in known if isinstance(classified(database_error(state), writing=writing), FatalError)]

    assert len(known) > 200
    assert ends == []


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError("refused"),
        TimeoutError(),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        DBAPIError("SELECT", None, asyncpg.InterfaceError("connection is closed")),
    ],
    ids=type,
)
def test_a_connection_that_is_gone_may_come_back(error: Exception) -> None:
    assert isinstance(classified(error), RetryableError)


@pytest.mark.parametrize("sqlstate", ["22P05", "40001", "42501"])
def test_the_servers_own_text_goes_nowhere(sqlstate: str) -> None:
    assert "secret-payload" not in str(classified(database_error(sqlstate)))


def test_the_migrations_have_one_head() -> None:
    assert ScriptDirectory.from_config(migrations()).get_current_head() == REVISION
