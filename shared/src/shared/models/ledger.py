"""The tables of the ledger. Migrations create them; a test compares a migrated database with this description."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import INT8MULTIRANGE, INT8RANGE, JSONB

from shared.models.tables import metadata

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
    Column("idempotency_key", Text, comment="the id its producer gave, or the one that was derived; null: none"),
    Column("channel", SmallInteger, nullable=False, comment="1 http, 2 grpc, 3 file, 4 queue"),
    Column("type", Text),
    Column("occurred_at", DateTime(timezone=True)),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column("stored_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("content_type", Text, nullable=False),
    Column("origin", Text, comment="where it came from within the channel, such as a file and a row"),
    Column("body", LargeBinary, nullable=False, comment="the received bytes"),
    Column(
        "derived", Boolean, comment="the key was derived of what came; null: its producer gave it, or there is none"
    ),
    Column("sender", Text, comment="who sent it: an API key's name, a broker's user; null: nobody was asked"),
    Column("subject", Text, comment="keyed hash of the person whom it is about, where its pipeline names one"),
    Column(
        "file_at",
        DateTime(timezone=True),
        comment="when its file was claimed, one moment for all its rows; "
        "null: it is of no file, or stored by the code before",
    ),
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
    Column("status", SmallInteger, nullable=False, comment="1 SUCCESS, 2 FAILED, 3 HELD"),
    Column("attempt", SmallInteger, nullable=False, server_default=text("1")),
    Column("result_payload", JSONB, comment="null: SUCCESS equal to the body or kept as rows, or FAILED, or HELD"),
    Column("errors", JSONB, comment="[{pointer, detail, code}] of a FAILED record; of a SUCCESS: what was odd"),
    Column("processed_at", DateTime(timezone=True), nullable=False),
    Column("pipeline_id", Integer, comment="the version that made it; null: none"),
    Column("row_count", Integer, comment="rows of typed tables that it made; null: no pipeline"),
    Column("cause_id", Integer, comment="why it is FAILED or HELD; null: SUCCESS, or stored by the code before"),
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
    Column("sender", Text, comment="who sent it, as in raw_events"),
    # The same conflicting content, sent again, is the same conflict.
    UniqueConstraint("raw_event_id", "body_sha256"),
    comment="Same (source, id), other content: kept for inspection, never stored over the first.",
)

settlements = Table(
    "settlements",
    metadata,
    Column("event_id", Uuid, primary_key=True, comment="of the event that was stored first"),
    Column(
        "received_at",
        DateTime(timezone=True),
        primary_key=True,
        comment="with the channel: tells this acceptance from any other",
    ),
    Column("source_id", Integer, nullable=False),
    Column("channel", SmallInteger, primary_key=True),
    Column("disposition", SmallInteger, nullable=False, comment="2 duplicate, 3 conflict"),
    comment="What was acknowledged before it turned out to be stored already.",
)

unconfirmed = Table(
    "unconfirmed",
    metadata,
    Column("event_id", Uuid, primary_key=True),
    Column("received_at", DateTime(timezone=True), primary_key=True),
    Column("channel", SmallInteger, primary_key=True),
    comment="Acceptances that were handed over and never confirmed: in the ledger or not.",
)

receipts = Table(
    "receipts",
    metadata,
    Column("instance", Uuid, primary_key=True, comment="the process that counted"),
    Column("number", BigInteger, primary_key=True, comment="of its receipts, from 1"),
    Column("source", Text, primary_key=True, comment="empty: unreadable; *: sources beyond the limit, together"),
    Column("channel", SmallInteger, primary_key=True),
    Column("hour", DateTime(timezone=True), primary_key=True, comment="the hour of received_at"),
    Column("service", Text, nullable=False),
    Column("reported_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    *(
        Column(fate, BigInteger, nullable=False)
        for fate in ("stored", "duplicate", "conflict", "refused", "queued", "unknown")
    ),
    Column(
        "unlisted",
        BigInteger,
        comment="of unknown: may be stored, and are not listed in unconfirmed; "
        "null: nothing was listed, so all of them",
    ),
    comment="How edge services answered, in portions; etlpay audit compares it with what is stored.",
)

upgrades = Table(
    "upgrades",
    metadata,
    Column("revision", Text, primary_key=True, comment="the migration"),
    Column("had_events", Boolean, nullable=False, comment="it held events already"),
    Column("upgraded_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    comment="What the ledger was when a migration came to it.",
)

receipt_series = Table(
    "receipt_series",
    metadata,
    Column("instance", Uuid, primary_key=True),
    Column("service", Text, nullable=False),
    Column("channel", SmallInteger, nullable=False),
    Column("interval_seconds", Double, nullable=False),
    Column("numbers", INT8MULTIRANGE, nullable=False, comment="of the receipts that are here"),
    Column("number", BigInteger, nullable=False, comment="of the newest; the next columns are from it"),
    Column(
        "open_since",
        DateTime(timezone=True),
        nullable=False,
        comment="what came in before is counted; by the clock of the process",
    ),
    Column(
        "taken_at",
        DateTime(timezone=True),
        nullable=False,
        comment="when it was counted; by the clock of the process",
    ),
    Column("closed", Boolean, nullable=False, comment="the process ended in order, and counted everything"),
    Column("reported_at", DateTime(timezone=True), nullable=False),
    comment="The receipts of one process: how far they have come, and whether they ended.",
)

receipt_gaps = Table(
    "receipt_gaps",
    metadata,
    Column("instance", Uuid, primary_key=True),
    Column("numbers", INT8RANGE, primary_key=True),
    Column("since", DateTime(timezone=True), nullable=False, comment="what they count came in from here on"),
    Column("until", DateTime(timezone=True), nullable=False),
    comment="Receipts that were not here when a later one came; they may have come since.",
)

feed = Table(
    "feed",
    metadata,
    Column(
        "xid",
        BigInteger,
        primary_key=True,
        autoincrement=False,
        comment="the transaction, as pg_current_xact_id counts them",
    ),
    Column(
        "first_id",
        BigInteger,
        primary_key=True,
        autoincrement=False,
        comment="of its records; those from here to last_id, which may be more than its own",
    ),
    Column("last_id", BigInteger, nullable=False),
    Column(
        "stored_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=text("now()"),
        comment="tells the transaction from one that had its number before a restore",
    ),
    comment="Which records each transaction stored; a trigger of processed_records writes it.",
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
Index(
    "processed_records_held",  # what is owed: the oldest HELD records
    processed_records.c.processed_at,
    processed_records.c.id,
    postgresql_where=text("status = 3"),
)
# GET /api/audit: what arrived in one hour. Rows stand almost in the order of their arrival, so a few bytes for each
# stretch of the table are enough, and writing costs next to nothing.
for _table in (raw_events, settlements, unconfirmed):
    Index(
        f"{_table.name}_by_arrival",
        _table.c.received_at,
        postgresql_using="brin",
        postgresql_with={"autosummarize": "true"},
    )
Index("receipts_by_hour", receipts.c.hour)  # GET /api/audit: what was answered in one hour
