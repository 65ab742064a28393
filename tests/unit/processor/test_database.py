"""An error of the database means what its SQLSTATE says, never what its text says."""

import asyncpg
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

from processor.database import REVISION, PermanentDataError, classified
from processor.migrate import migrations
from shared.contracts.errors import EtlPayError, FatalError, RetryableError, UnavailableError


def database_error(sqlstate: str) -> asyncpg.PostgresError:
    """Return the error as asyncpg raises it."""
    error: asyncpg.PostgresError = asyncpg.PostgresError.new({"C": sqlstate, "M": "secret-payload"})
    return error


@pytest.mark.parametrize(
    ("sqlstate", "meaning"),
    [
        ("08006", UnavailableError),
        ("40001", UnavailableError),
        ("40P01", UnavailableError),
        ("53100", UnavailableError),
        ("53300", UnavailableError),
        ("55P03", UnavailableError),
        ("57P01", UnavailableError),
        ("57014", UnavailableError),
        ("58030", UnavailableError),
        ("25006", UnavailableError),
        ("22P05", PermanentDataError),
        ("22003", PermanentDataError),
        ("23505", PermanentDataError),
        ("54000", PermanentDataError),
        ("42501", FatalError),
        ("42P01", FatalError),
        ("28P01", FatalError),
        ("3D000", FatalError),
    ],
)
def test_the_sqlstate_says_what_is_done(sqlstate: str, meaning: type[EtlPayError]) -> None:
    assert type(classified(database_error(sqlstate))) is meaning


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
