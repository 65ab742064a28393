"""The tables of the pipelines: their versions and what is active. The typed tables themselves are made by `apply`."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from shared.models.tables import metadata

causes = Table(
    "causes",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    comment="Why records failed, such as stripe.payments.amount:type; without versions and indexes.",
)

pipelines = Table(
    "pipelines",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("sha256", LargeBinary, nullable=False, comment="of content; the same content is the same version"),
    Column(
        "content",
        LargeBinary,
        nullable=False,
        comment="its files and what else decides a result, as canonical JSON",
    ),
    Column(
        "generations",
        JSONB,
        nullable=False,
        comment='the number of the table in schema rows, by table: {"payments": 1}',
    ),
    Column("label", Text, comment="what its author calls it, such as a commit"),
    Column("registered_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("registered_by", Text, nullable=False),
    UniqueConstraint("name", "version"),
    UniqueConstraint("name", "sha256"),
    comment="Every version of every pipeline, for ever.",
)

pipeline_states = Table(
    "pipeline_states",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("pipeline_id", Integer, ForeignKey("pipelines.id")),
    Column("state", SmallInteger, nullable=False, comment="1 active, 2 candidate, 3 off"),
    Column(
        "pinned",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="somebody chose this version: applying what is registered already changes nothing",
    ),
    Column("set_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("set_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    comment="Which version of a pipeline is active; the last row of a name counts.",
)

pipeline_holds = Table(
    "pipeline_holds",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("held", Boolean, nullable=False),
    Column("set_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("set_by", Text, nullable=False, comment="processor: by itself, and ended by itself"),
    Column("reason", Text, nullable=False),
    comment="Whether the events of a pipeline are kept and not processed; the last row of a name counts.",
)

# Its key is what a query asks by: versions, then hours.
drifts = Table(
    "drifts",
    metadata,
    Column("pipeline_id", Integer, primary_key=True, autoincrement=False),
    Column("hour", DateTime(timezone=True), primary_key=True, comment="of arrival"),
    Column("kind", SmallInteger, primary_key=True, comment="1 unknown type, 2 unknown member"),
    Column(
        "place",
        Text,
        primary_key=True,
        comment="a JSON Pointer, cut; empty: the event; *: those beyond what a process counts apart",
    ),
    Column("instance", Uuid, primary_key=True, comment="the process that counted"),
    Column("number", BigInteger, nullable=False, comment="of the newest portion of that process which is in events"),
    Column("events", BigInteger, nullable=False),
    Column("example", BigInteger, nullable=False, comment="the id of a raw event"),
    comment="What events held that the version of their pipeline does not read; a report, without values.",
)
