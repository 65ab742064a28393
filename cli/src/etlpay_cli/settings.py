"""Settings of the `etlpay` command. No other module of this package reads the environment."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

# A checkout is known by this file; the command works from anywhere below it.
_MARK = Path("protos/etlpay.proto")


class CliSettings(BaseSettings):
    """Settings of the command and of the stack that it starts. A port that is not set is chosen."""

    model_config = SettingsConfigDict(env_prefix="ETLPAY_", extra="ignore")

    root: Path | None = Field(default=None, description="The checkout whose stack is meant.")
    project: str = Field(
        default="",
        pattern=r"^([a-z0-9][a-z0-9_-]*)?$",
        description="The name of the containers and volumes; empty: one for each checkout.",
    )
    http_port: int | None = Field(default=None, ge=1, le=65535, description="Port of the HTTP channel.")
    grpc_port: int | None = Field(default=None, ge=1, le=65535, description="Port of the gRPC channel.")
    amqp_port: int | None = Field(default=None, ge=1, le=65535, description="Port of RabbitMQ.")
    postgres_port: int | None = Field(default=None, ge=1, le=65535, description="Port of PostgreSQL.")
    api_keys_file: Path | None = Field(
        default=None, description="file of API keys (`etlpay keys`); empty: no key is needed"
    )
    demo_key: SecretStr = Field(default=SecretStr(""), description="The API key that `make demo` sends.")
    api_key: SecretStr = Field(default=SecretStr(""), description="The API key that `etlpay audit` sends.")
    redis_port: int | None = Field(default=None, ge=1, le=65535, description="Port of Redis or Valkey.")


class RootNotFoundError(Exception):
    """The command was called outside a checkout."""


def find_root(settings: CliSettings) -> Path:
    """Return the checkout: the one that is set, else the nearest one from the current folder upwards."""
    if settings.root is not None:
        return settings.root.resolve()
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / _MARK).exists():
            return folder
    raise RootNotFoundError


def inherited_environment(*, without: tuple[str, ...]) -> dict[str, str]:
    """Return this process's environment for a child, without the variables that begin with one of `without`."""
    return {name: value for name, value in os.environ.items() if not name.startswith(without)}


def demanded_ports(settings: CliSettings) -> dict[str, int | None]:
    """Return the ports that the operator asks for, by the names of ports.py."""
    return {
        "http": settings.http_port,
        "grpc": settings.grpc_port,
        "amqp": settings.amqp_port,
        "postgres": settings.postgres_port,
        "redis": settings.redis_port,
    }
