"""The ledger's tables, as the processor writes them and the gateway reads them. The migrations create them."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

PROCESSOR_ROLE: Final = "etlpay_processor"
READER_ROLE: Final = "etlpay_reader"

metadata = MetaData()

ingestion_sources = Table(
    "ingestion_sources",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    comment="Who produced events; a row appears with the first event of a source.",
)

raw_events = Table(
    "raw_events",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", Uuid, nullable=False, unique=True, comment="derived from (source, idempotency key), or UUIDv7"),
    Column("source_id", Integer, ForeignKey("ingestion_sources.id"), nullable=False),
    Column("idempotency_key", Text, comment="the id its producer gave; null: none"),
    Column("channel", SmallInteger, nullable=False, comment="1 http, 2 grpc, 3 file, 4 queue"),
    Column("type", Text),
    Column("occurred_at", DateTime(timezone=True)),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column("stored_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("content_type", Text, nullable=False),
    Column("origin", Text, comment="where it came from within the channel, such as a file and a row"),
    Column("body", LargeBinary, nullable=False, comment="the received bytes"),
    comment="Every accepted event, once, byte for byte.",
)

processed_records = Table(
    "processed_records",
    metadata,
    Column(
        "id",
        BigInteger,
        primary_key=True,
        autoincrement=False,
        comment="one series with the ids of raw events; a first record has its event's",
    ),
    Column("raw_event_id", BigInteger, ForeignKey("raw_events.id"), nullable=False),
    Column("source_id", Integer, nullable=False, comment="of the raw event, for the queries below"),
    Column("channel", SmallInteger, nullable=False, comment="of the raw event"),
    Column("status", SmallInteger, nullable=False, comment="1 SUCCESS, 2 FAILED"),
    Column("attempt", SmallInteger, nullable=False, server_default=text("1")),
    Column("result_payload", JSONB, comment="null: SUCCESS equal to the body, or FAILED"),
    Column("errors", JSONB, comment="[{pointer, detail}] of a FAILED record"),
    Column("processed_at", DateTime(timezone=True), nullable=False),
    comment="What processing made of each raw event.",
)

conflicts = Table(
    "conflicts",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("raw_event_id", BigInteger, ForeignKey("raw_events.id"), nullable=False, comment="the event stored first"),
    Column("channel", SmallInteger, nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column("content_type", Text, nullable=False),
    Column("origin", Text),
    Column("body", LargeBinary, nullable=False, comment="the received bytes"),
    Column("body_sha256", LargeBinary, nullable=False),
    # The same conflicting content, sent again, is the same conflict.
    UniqueConstraint("raw_event_id", "body_sha256"),
    comment="Same (source, id), other content: kept for inspection, never stored over the first.",
)

# Every index names the query it serves.
Index(
    "processed_records_of_event",  # GET /api/events/{event_id}: the record of a raw event
    processed_records.c.raw_event_id,
    processed_records.c.attempt,
    unique=True,
)
Index(
    "processed_records_by_time",  # GET /api/processed-records: newest first, with a time range
    processed_records.c.processed_at,
    processed_records.c.id,
)
Index(
    "processed_records_by_source",  # GET /api/processed-records?source=: newest first of one source
    processed_records.c.source_id,
    processed_records.c.processed_at,
    processed_records.c.id,
)
Index(
    "processed_records_failed",  # GET /api/processed-records?status=FAILED: the few among the many
    processed_records.c.processed_at,
    processed_records.c.id,
    postgresql_where=text("status = 2"),
)
