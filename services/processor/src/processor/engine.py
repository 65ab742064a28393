"""The engine of SQLAlchemy, for the migrations."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from shared.postgres import connect_options, keep_moments_exact
from shared.settings import PostgresSettings


def create_engine(
    settings: PostgresSettings,
    *,
    name: str,
    server_settings: Mapping[str, str],
    **options: Any,  # noqa: ANN401 - as `create_async_engine` takes them
) -> AsyncEngine:
    """Return an engine that connects as `connect_options` says; `options` are what it does differently."""
    password = settings.postgres_password.get_secret_value() or None
    engine = create_async_engine(
        make_url(settings.postgres_url).set(drivername="postgresql+asyncpg", password=password),
        pool_size=settings.postgres_pool_max,
        max_overflow=0,
        pool_timeout=settings.postgres_seconds_max,
        # Error messages would quote the parameters, and with them payloads.
        hide_parameters=True,
        connect_args=connect_options(settings, name=name, server_settings=server_settings),
        **options,
    )
    event.listen(engine.sync_engine, "connect", _prepare)
    return engine


def _prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    connection.run_async(keep_moments_exact)
