"""Settings of the processor and of its migrations."""

from pathlib import Path
from typing import Final

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, SecretStr

from shared.batching import BatcherLimits
from shared.contracts.roles import OWNER_ROLE, PIPELINES_ROLE, PROCESSOR_ROLE, READER_ROLE
from shared.runtime.rpc_server import RpcServerSettings
from shared.settings import (
    AmqpSettings,
    PostgresPoolSettings,
    PostgresSettings,
    ProgramSettings,
    RedisSettings,
    ServiceSettings,
    TlsSettings,
)

_MIB: Final = 1024 * 1024


class CallerSettings(BaseModel):
    """Who may call Processing.Process. Where one of these is set, every call needs one of them."""

    api_gateway_token: SecretStr = Field(SecretStr(""), description="what api-gateway presents to the processor")
    grpc_ingest_token: SecretStr = Field(SecretStr(""), description="what grpc-ingest presents to the processor")
    operator_token: SecretStr = Field(
        SecretStr(""), description="what a service started by hand presents to the processor, for events of any channel"
    )


class ProcessorSettings(
    ServiceSettings, AmqpSettings, PostgresPoolSettings, RedisSettings, RpcServerSettings, CallerSettings, TlsSettings
):
    """Settings of `python -m processor`."""

    ops_port: int = Field(9104, description="port of /livez, /readyz and /metrics; 0: off")
    postgres_url: str = Field(
        f"postgresql://{PROCESSOR_ROLE}@127.0.0.1:5432/etlpay", description="without the password"
    )
    processing_host: str = Field("127.0.0.1", description="where Processing.Process listens")
    processing_port: int = Field(50052, description="port of Processing.Process; 0: a free one")
    ingest_prefetch: PositiveInt = Field(32, description="messages of the fast ingest queue that are not settled yet")
    ingest_bytes_max: PositiveInt = Field(
        5 * _MIB,
        description="bytes of messages of one ingest queue that are not settled yet, about; beyond it no more is read",
    )
    # One is committed, one is stored and one is made ready: files 36,300 events a second instead of 33,500 with two.
    batch: BatcherLimits = Field(BatcherLimits(in_flight_max=3), description="limits of the batches that are stored")
    # From here on COPY takes less CPU than one INSERT, for all that it needs four round trips. Measured, in PostgreSQL
    # and here together: 22 instead of 27 microseconds an event in batches of 1,000, 36 and 40 of 128, 46 and 44 of 64,
    # 50 and 40 of 32.
    copy_events_min: PositiveInt = Field(
        100, description="events of a batch that COPY stores where none is known yet; a smaller one: INSERT"
    )
    typed_lock_seconds_max: PositiveFloat = Field(
        2.0, description="how long a batch waits for a lock on a typed table; then the table's pipeline is held"
    )
    source_names_max: PositiveInt = Field(
        10_000, description="sources whose row is remembered; another one is looked up when it writes again"
    )
    compared_bytes_max: PositiveInt = Field(
        _MIB, description="bodies of events stored before that are read at once, to compare them; or one that is larger"
    )
    answered_bytes_max: PositiveInt = Field(
        4 * _MIB, description="payloads stored before that the answers to one batch repeat; beyond it what was sent"
    )
    mask_key: SecretStr = Field(
        SecretStr(""), description="key of the keyed hashes in typed rows, the same for processor and pipelines"
    )
    former_mask_keys: SecretStr = Field(
        SecretStr(""), description="keys for which earlier versions of pipelines were made, one a line; remove none"
    )


class MigrationSettings(ProgramSettings, PostgresSettings):
    """Settings of `python -m processor.migrate`."""

    postgres_url: str = Field(f"postgresql://{OWNER_ROLE}@127.0.0.1:5432/etlpay", description="without the password")
    postgres_seconds_max: PositiveFloat = Field(3600.0, description="how long one statement of a migration may take")
    migration_lock_seconds_max: PositiveFloat = Field(
        2.0, description="how long a migration waits for a lock before it lets those who write go on, and tries again"
    )
    migration_seconds_max: PositiveFloat = Field(
        120.0, description="how long a migration tries again while another session, such as a backup, uses the tables"
    )
    processor_password: SecretStr = Field(SecretStr(""), description=f"given to the role {PROCESSOR_ROLE}; empty: none")
    reader_password: SecretStr = Field(SecretStr(""), description=f"given to the role {READER_ROLE}; empty: none")
    pipelines_password: SecretStr = Field(SecretStr(""), description=f"given to the role {PIPELINES_ROLE}; empty: none")


class PipelineSettings(ProgramSettings, PostgresSettings):
    """Settings of `python -m processor.pipelines`."""

    postgres_url: str = Field(
        f"postgresql://{PIPELINES_ROLE}@127.0.0.1:5432/etlpay", description="without the password"
    )
    postgres_seconds_max: PositiveFloat = Field(
        3600.0, description="how long one statement of `apply` may take, such as building an index"
    )
    pipelines_folder: Path = Field(Path("pipelines"), description="the pipeline files, where no path is given")
    pipelines_plans_folder: Path | None = Field(
        None, description="where plans are kept, so that a stale one is told with its difference; empty: nowhere"
    )
    pipelines_lock_seconds_max: PositiveFloat = Field(
        0.5, description="how long `apply` waits for a lock before it lets those who write go on, and tries again"
    )
    pipelines_seconds_max: PositiveFloat = Field(
        180.0, description="how long `apply` tries again while another session uses a table"
    )
    pipelines_events_max: PositiveInt = Field(
        10_000, description="stored events, the newest, on which `plan` compares two versions of a pipeline"
    )
    mask_key: SecretStr = Field(
        SecretStr(""), description="key of the keyed hashes in typed rows, the same for processor and pipelines"
    )
