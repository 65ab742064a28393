"""How services connect to PostgreSQL: limits in time on both sides, errors without values, moments that stay exact."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from shared.settings import PostgresSettings

_CONNECT_SECONDS_MAX: Final = 10.0

# PostgreSQL counts microseconds from here (its documentation, "Date/Time Types"), and keeps the two ends of the
# counter for its infinities.
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_ENDS: Final = {-(2**63): datetime.min.replace(tzinfo=UTC), 2**63 - 1: datetime.max.replace(tzinfo=UTC)}


def connect_options(settings: PostgresSettings, *, name: str, server_settings: Mapping[str, str]) -> dict[str, Any]:
    """Return how asyncpg connects: every statement has a limit in time, on our side and on the server's.

    Args:
        settings: where PostgreSQL is, and the limits.
        name: what PostgreSQL calls the connections (`application_name`).
        server_settings: further settings of the session.
    """
    return {
        "timeout": min(settings.postgres_seconds_max, _CONNECT_SECONDS_MAX),
        "command_timeout": settings.postgres_seconds_max + 1,
        "server_settings": {
            "application_name": name,
            "statement_timeout": str(int(settings.postgres_seconds_max * 1000)),
            # The server notices that we are gone also while a statement runs.
            "client_connection_check_interval": "1000",
            **server_settings,
        },
    }


async def keep_moments_exact(connection: asyncpg.Connection) -> None:
    """Let a connection store moments as they are.

    asyncpg by itself writes the first moment of year 1 (what Go and protobuf call the zero time) as `-infinity`, the
    last one of year 9999 as `infinity`, and reads both without a time zone.
    """
    await connection.set_type_codec(
        "timestamptz", schema="pg_catalog", encoder=_encode, decoder=_decode, format="tuple"
    )


def _encode(moment: datetime) -> tuple[int]:
    return ((moment - _EPOCH) // _MICROSECOND,)


def _decode(counted: tuple[int]) -> datetime:
    [microseconds] = counted
    return _ENDS.get(microseconds) or _EPOCH + timedelta(microseconds=microseconds)
