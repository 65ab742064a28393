"""Settings: environment variables `ETLPAY_...`, secrets also as files named by `ETLPAY_..._FILE`.

Precedence: environment, then secret files, then the file `.etlpay/stack.env` in the current directory (written by
`make up`, so that a service started by hand finds the running stack), then the defaults below.
"""

import difflib
import os
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import structlog
from pydantic import BaseModel, Field, NonNegativeInt, PositiveFloat, PositiveInt, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

PREFIX: Final = "ETLPAY_"
_FILE_SUFFIX: Final = "_FILE"

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class SecretFileSource(PydanticBaseSettingsSource):
    """Reads the value of a setting from the file that `ETLPAY_<NAME>_FILE` names; one trailing line feed is dropped."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - the base class's signature
        """Return the file's text, or None where the variable is not set."""
        path = os.environ.get(f"{PREFIX}{field_name.upper()}{_FILE_SUFFIX}")
        value = Path(path).read_text(encoding="utf-8").removesuffix("\n") if path else None
        return value, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return every setting that a file gives."""
        values = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None}


class ServiceSettings(BaseSettings):
    """What every service can be told."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=".etlpay/stack.env",
        env_file_encoding="utf-8",
        extra="ignore",
        frozen=True,
    )

    # Where the settings of a service come in several classes, each lists here what it shares with its deployment.
    also_known: ClassVar[frozenset[str]] = frozenset()

    log_level: str = Field("info", description="debug, info, warning or error")
    ops_host: str = Field("127.0.0.1", description="where /livez, /readyz and /metrics listen")
    ops_port: NonNegativeInt = Field(0, description="port of /livez, /readyz and /metrics; 0: off")
    drain_seconds_max: PositiveFloat = Field(25.0, description="how long a stopping service may finish its work")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put secret files between the environment and `stack.env`."""
        return init_settings, env_settings, SecretFileSource(settings_cls), dotenv_settings, file_secret_settings

    @classmethod
    def load(cls, **overrides: Any) -> Self:  # noqa: ANN401 - the values of any setting
        """Read the settings and warn of variables that look like ours and are not. Raises pydantic.ValidationError."""
        settings = cls(**overrides)
        for name, nearest in unknown_variables(cls):
            log.warning("unknown setting ignored", setting=name, nearest=nearest)
        return settings


def unknown_variables(settings: type[ServiceSettings]) -> list[tuple[str, str | None]]:
    """Return each environment variable `ETLPAY_...` that `settings` does not know, with the nearest name it does."""
    known = {f"{PREFIX}{name.upper()}" for name in settings.model_fields} | settings.also_known
    found = sorted(name for name in os.environ if name.startswith(PREFIX))
    strange = [name for name in found if name.removesuffix(_FILE_SUFFIX).split("__")[0] not in known]
    return [(name, next(iter(difflib.get_close_matches(name, known, n=1)), None)) for name in strange]


class AmqpSettings(BaseModel):
    """How to reach RabbitMQ, and the bounds of what goes there."""

    amqp_url: str = Field("amqp://guest@127.0.0.1:5672/", description="RabbitMQ, without the password")
    amqp_password: SecretStr = Field(SecretStr("guest"), description="password of the user in ETLPAY_AMQP_URL")
    amqp_heartbeat_seconds: PositiveInt = Field(10, description="heartbeat of AMQP connections")
    amqp_connect_seconds_max: PositiveFloat = Field(5.0, description="how long one attempt to connect may take")
    publish_seconds_max: PositiveFloat = Field(5.0, description="how long a publish may wait for its confirmation")
    publishes_in_flight_max: PositiveInt = Field(32, description="publishes that wait for their confirmation at once")
    reconnect_seconds_max: PositiveFloat = Field(5.0, description="longest pause between two attempts to connect")


class PostgresSettings(BaseModel):
    """How to reach PostgreSQL."""

    postgres_url: str = Field("postgresql://etlpay_reader@127.0.0.1:5432/etlpay", description="without the password")
    postgres_password: SecretStr = Field(SecretStr(""), description="password of the role in ETLPAY_POSTGRES_URL")
    postgres_pool_max: PositiveInt = Field(8, description="connections at most")
    postgres_seconds_max: PositiveFloat = Field(10.0, description="how long one statement may take")


class RedisSettings(BaseModel):
    """How to reach the cache, which is optional."""

    redis_url: str = Field("", description="redis://host:port/0; empty: no cache")
    redis_seconds_max: PositiveFloat = Field(0.05, description="how long one call to the cache may take")
    cache_seconds: PositiveInt = Field(3600, description="how long the cache keeps a record")


class SubmissionSettings(BaseModel):
    """How the waiting channels reach the processor."""

    processor_target: str = Field("127.0.0.1:50052", description="gRPC target of the processor")
    process_seconds_max: PositiveFloat = Field(
        3.0, description="how long the processor may take to answer before the event goes over RabbitMQ"
    )
    fallback_to_queue: bool = Field(
        default=True, description="without the processor: publish and answer 202 / ACCEPTED; false: 503 / UNAVAILABLE"
    )
