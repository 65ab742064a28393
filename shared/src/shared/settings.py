"""Settings: environment variables `ETLPAY_...`, secrets also as files named by `ETLPAY_..._FILE`.

Precedence: environment, then secret files, then the file `.etlpay/stack.env` in the current directory (written by
`make up`, so that a service started by hand finds the running stack), then the defaults below.
"""

import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from shared.setting_names import SETTING_NAMES
from shared.tls import TlsFiles

PREFIX: Final = "ETLPAY_"
FILE_SUFFIX: Final = "_FILE"
_NESTING: Final = "__"
# Of 1, for the same name. A name that is less similar is no suggestion.
_SIMILAR_MIN: Final = 0.75
_SUGGESTIONS_MAX: Final = 3

LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(lambda level: str(level).lower())]


class SecretFileSource(PydanticBaseSettingsSource):
    """Reads the value of a setting from the file that `ETLPAY_<NAME>_FILE` names; one trailing line feed is dropped."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - the base class's signature
        """Return the file's text, or None where the variable is not set. Raises SettingsError."""
        variable = f"{PREFIX}{field_name.upper()}{FILE_SUFFIX}"
        path = os.environ.get(variable)
        try:
            value = Path(path).read_text(encoding="utf-8").removesuffix("\n") if path else None
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"the file that {variable} names cannot be read ({type(error).__name__})") from None
        return value, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return every setting that a file gives."""
        values = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None}


class ProgramSettings(BaseSettings):
    """Settings of every program that starts with `load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=_NESTING,
        env_file=".etlpay/stack.env",
        env_file_encoding="utf-8",
        extra="ignore",
        frozen=True,
        # A member of a group that nobody sets keeps the default of the service.
        nested_model_default_partial_update=True,
        # The value may be a secret.
        hide_input_in_errors=True,
    )

    log_level: LogLevel = Field("info", description="debug, info, warning or error")
    failpoint: str = Field("", description="fault tests only: where the process fails, such as `place:kill@3`")
    failpoint_log: Path | None = Field(None, description="fault tests only: the file that notes when it failed")

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


class ServiceSettings(ProgramSettings):
    """Settings of every service."""

    ops_host: str = Field("127.0.0.1", description="where /livez, /readyz and /metrics listen")
    ops_port: NonNegativeInt = Field(0, description="port of /livez, /readyz and /metrics; 0: off")
    drain_seconds_max: PositiveFloat = Field(25.0, description="how long a stopping service may finish its work")


class Variable(NamedTuple):
    """An environment variable that settings are read from."""

    name: str
    description: str
    default: object
    secret: bool


def variables(settings: type[BaseModel], *, prefix: str = PREFIX, defaults: object = None) -> list[Variable]:
    """Return every variable that `settings` reads, in their order; of a group each member, as `ETLPAY_GROUP__MEMBER`.

    `defaults` is the default of the group itself, where it is one.
    """
    found: list[Variable] = []
    for name, field in settings.model_fields.items():
        default = field.get_default(call_default_factory=False) if defaults is None else getattr(defaults, name)
        variable = f"{prefix}{name.upper()}"
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += variables(kind, prefix=f"{variable}{_NESTING}", defaults=default)
        else:
            found.append(Variable(variable, field.description or "", default, kind is SecretStr))
    return found


def unknown_variables(settings: type[ProgramSettings]) -> list[tuple[str, list[str]]]:
    """Return each variable `ETLPAY_...` of the environment that no program knows, with similar names, the best first.

    Variables of other programs are not unknown: services often share one environment.
    """
    known = {variable.name for variable in variables(settings)}
    taken = known | SETTING_NAMES
    groups = {name.split(_NESTING)[0] for name in taken if _NESTING in name}
    found = sorted(name for name in os.environ if name.startswith(PREFIX))
    strange = [name for name in found if not {name, name.removesuffix(FILE_SUFFIX)} & (taken | groups)]
    return [(name, _similar(name.removesuffix(FILE_SUFFIX), known)) for name in strange]


def _similar(name: str, known: set[str]) -> list[str]:
    """Return the names that share most words with `name`, and those that are spelt almost like it."""
    scores = {other: _similarity(name.removeprefix(PREFIX), other.removeprefix(PREFIX)) for other in known}
    similar = [other for other, score in scores.items() if max(score) >= _SIMILAR_MIN]
    return sorted(similar, key=lambda other: (scores[other], other), reverse=True)[:_SUGGESTIONS_MAX]


def _similarity(one: str, other: str) -> tuple[float, float]:
    """Return how many words, and how many letters in their order, two names share: 0 to 1."""
    words, other_words = set(one.split("_")) - {""}, set(other.split("_")) - {""}
    shared = 2 * len(words & other_words) / (len(words) + len(other_words) or 1)
    return shared, difflib.SequenceMatcher(None, one, other).ratio()


class AmqpSettings(BaseModel):
    """How to reach RabbitMQ."""

    amqp_url: str = Field(
        "amqp://guest@127.0.0.1:5672/",
        description="RabbitMQ with the virtual host of the ingest queues, without the password",
    )
    amqp_password: SecretStr = Field(SecretStr("guest"), description="password of the user in ETLPAY_AMQP_URL")
    amqp_ca_file: str = Field("", description="authority of RabbitMQ's certificate, for amqps://; empty: the system's")
    amqp_cert_file: str = Field("", description="certificate that is shown to RabbitMQ; empty: none")
    amqp_key_file: str = Field("", description="private key of that certificate")
    amqp_heartbeat_seconds: PositiveInt = Field(10, description="heartbeat of AMQP connections")
    amqp_connect_seconds_max: PositiveFloat = Field(5.0, description="how long one attempt to connect may take")
    publish_seconds_max: PositiveFloat = Field(5.0, description="how long a publish may wait for its confirmation")
    reconnect_seconds_max: PositiveFloat = Field(5.0, description="longest pause between two attempts to connect")

    @property
    def amqp_tls(self) -> TlsFiles:
        """The files for TLS with RabbitMQ."""
        return TlsFiles(self.amqp_ca_file, self.amqp_cert_file, self.amqp_key_file)

    @model_validator(mode="after")
    def _check_amqp_tls(self) -> Self:
        _require_tls("ETLPAY_AMQP", self.amqp_tls, url=self.amqp_url, scheme="amqps")
        return self


class PublisherSettings(AmqpSettings):
    """How events and receipts are published."""

    publishes_in_flight_max: PositiveInt = Field(32, description="publishes that wait for their confirmation at once")
    receipt_seconds: PositiveFloat = Field(10.0, description="how often a service sends its receipts to the ledger")


class QueueBrokerSettings(PublisherSettings):
    """How to reach the broker of the foreign queues, which need not be our own."""

    queue_amqp_url: str = Field(
        "", description="RabbitMQ of the foreign queues; empty: the one in ETLPAY_AMQP_URL, virtual host `/`"
    )
    queue_amqp_password: SecretStr = Field(
        SecretStr(""), description="password of the user in ETLPAY_QUEUE_AMQP_URL, where that is set"
    )
    queue_amqp_ca_file: str = Field("", description="as ETLPAY_AMQP_CA_FILE, of the broker in ETLPAY_QUEUE_AMQP_URL")
    queue_amqp_cert_file: str = Field("", description="certificate that is shown to that broker; empty: none")
    queue_amqp_key_file: str = Field("", description="private key of that certificate")

    @model_validator(mode="after")
    def _check_queue_amqp_tls(self) -> Self:
        files = TlsFiles(self.queue_amqp_ca_file, self.queue_amqp_cert_file, self.queue_amqp_key_file)
        _require_tls("ETLPAY_QUEUE_AMQP", files, url=self.queue_amqp_url, scheme="amqps")
        return self

    def queue_broker(self) -> AmqpSettings:
        """Return how to reach the broker of the foreign queues.

        Our own password and certificate are sent to our own broker only.
        """
        ours = AmqpSettings(**{name: getattr(self, name) for name in AmqpSettings.model_fields})
        foreign = (
            {
                "amqp_url": self.queue_amqp_url,
                "amqp_password": self.queue_amqp_password,
                "amqp_ca_file": self.queue_amqp_ca_file,
                "amqp_cert_file": self.queue_amqp_cert_file,
                "amqp_key_file": self.queue_amqp_key_file,
            }
            if self.queue_amqp_url
            else {"amqp_url": urlsplit(self.amqp_url)._replace(path="/").geturl()}
        )
        return ours.model_copy(update=foreign)


class AccessSettings(BaseModel):
    """Who may call a service, and how often."""

    api_keys_file: str = Field("", description="file of API keys (`etlpay keys`); empty: no key is needed")
    api_keys_stale_seconds: PositiveFloat = Field(
        60.0,
        description="how long the last good keys are valid while their file cannot be used; then every call is refused",
    )
    allow_anonymous: bool = Field(default=False, description="listen beyond this machine also without API keys")
    rate_per_key: NonNegativeFloat = Field(0, description="events a second of one caller; 0: no limit")


class FairnessSettings(BaseModel):
    """How callers share the limits of a service; `shared.runtime.limits` says how."""

    caller_share_max: PositiveFloat = Field(
        0.75, le=1, description="part of each limit that one caller may use alone; 1: all of it"
    )


class TlsSettings(BaseModel):
    """The certificate of a server, and the authority of its clients' certificates. Files are PEM."""

    tls_cert_file: str = Field("", description="certificate, with its chain; empty: no TLS")
    tls_key_file: str = Field("", description="private key of that certificate")
    tls_client_ca_file: str = Field("", description="certificates that those of clients must come from; empty: none")

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if bool(self.tls_cert_file) != bool(self.tls_key_file) or (self.tls_client_ca_file and not self.tls_cert_file):
            raise ValueError("TLS needs ETLPAY_TLS_CERT_FILE and ETLPAY_TLS_KEY_FILE")
        return self


class PostgresSettings(BaseModel):
    """How to reach PostgreSQL, for one connection."""

    postgres_url: str = Field("postgresql://etlpay_reader@127.0.0.1:5432/etlpay", description="without the password")
    postgres_password: SecretStr = Field(SecretStr(""), description="password of the role in ETLPAY_POSTGRES_URL")
    postgres_ca_file: str = Field(
        "", description="authority that PostgreSQL's certificate must come from, with its name; empty: not checked"
    )
    postgres_cert_file: str = Field("", description="certificate that is shown to PostgreSQL; empty: none")
    postgres_key_file: str = Field("", description="private key of that certificate")
    postgres_seconds_max: PositiveFloat = Field(10.0, description="how long one statement may take")

    @property
    def postgres_tls(self) -> TlsFiles:
        """The files for TLS with PostgreSQL."""
        return TlsFiles(self.postgres_ca_file, self.postgres_cert_file, self.postgres_key_file)

    @model_validator(mode="after")
    def _check_postgres_tls(self) -> Self:
        _require_tls("ETLPAY_POSTGRES", self.postgres_tls)
        return self


class PostgresPoolSettings(PostgresSettings):
    """How to reach PostgreSQL, for a pool of connections."""

    postgres_pool_max: PositiveInt = Field(8, description="connections at most")


class RedisSettings(BaseModel):
    """How to reach the cache, which is optional."""

    redis_url: str = Field("", description="redis://host:port/0; empty: no cache")
    redis_password: SecretStr = Field(SecretStr(""), description="password of the cache; empty: none")
    redis_ca_file: str = Field("", description="authority of Redis's certificate, for rediss://; empty: the system's")
    redis_cert_file: str = Field("", description="certificate that is shown to Redis; empty: none")
    redis_key_file: str = Field("", description="private key of that certificate")
    redis_seconds_max: PositiveFloat = Field(0.05, description="how long one call to the cache may take")
    cache_key: SecretStr = Field(
        SecretStr(""),
        description="key that signs the entries of the cache, the same for gateway and processor; empty: no cache",
    )
    cache_seconds: PositiveInt = Field(3600, description="how long the cache keeps a record")

    @property
    def redis_tls(self) -> TlsFiles:
        """The files for TLS with Redis."""
        return TlsFiles(self.redis_ca_file, self.redis_cert_file, self.redis_key_file)

    @model_validator(mode="after")
    def _check_redis_tls(self) -> Self:
        _require_tls("ETLPAY_REDIS", self.redis_tls, url=self.redis_url, scheme="rediss")
        return self


class SubmissionSettings(BaseModel):
    """How HTTP and gRPC events reach the processor."""

    processor_target: str = Field("127.0.0.1:50052", description="gRPC target of the processor")
    processor_token: SecretStr = Field(
        SecretStr(""), description="token by which the processor knows which service calls"
    )
    processor_ca_file: str = Field("", description="authority of the processor's certificate; empty: no TLS")
    processor_cert_file: str = Field("", description="certificate that is shown to the processor; empty: none")
    processor_key_file: str = Field("", description="private key of that certificate")
    process_seconds_max: PositiveFloat = Field(
        3.0, description="how long the processor may take to answer before the event goes over RabbitMQ"
    )
    fallback_to_queue: bool = Field(
        default=True, description="without the processor: publish and answer 202 / ACCEPTED; false: 503 / UNAVAILABLE"
    )

    @property
    def processor_tls(self) -> TlsFiles:
        """The files for TLS with the processor."""
        return TlsFiles(self.processor_ca_file, self.processor_cert_file, self.processor_key_file)

    @model_validator(mode="after")
    def _check_processor_tls(self) -> Self:
        _require_tls("ETLPAY_PROCESSOR", self.processor_tls)
        return self


def _require_tls(name: str, files: TlsFiles, *, url: str = "", scheme: str = "") -> None:
    """Raise ValueError where files are missing, or where their address is one without TLS."""
    if problem := files.problem(name):
        raise ValueError(problem)
    if files.ca_file and scheme and urlsplit(url).scheme != scheme:
        raise ValueError(f"{name}_CA_FILE needs an address in {name}_URL that begins with {scheme}://")
