"""A pipeline with every kind of table and view, and what PostgreSQL would hold after it was applied."""

from collections.abc import Iterable

from shared.pipelines.ddl.change import Change
from shared.pipelines.ddl.changes import changes_of
from shared.pipelines.ddl.existing import NOTHING, Existing, ExistingColumn, ExistingIndex, ExistingTable, ExistingView
from shared.pipelines.ddl.sql import index_name
from shared.pipelines.ddl.views import views_of
from shared.pipelines.document.reading import read_pipeline
from shared.pipelines.histories import complete_histories
from shared.pipelines.linting.pipeline import lint
from shared.pipelines.model import Pipeline
from shared.pipelines.typed_tables import typed_tables

SHOP = """\
etlpay = 1
name   = "shop"
source = "shop-*"

[[table]]
name   = "orders"
about  = "Each order's latest state."
types  = ["order.*"]
when   = { "/live" = [true] }
mode   = "latest"
key    = ["id"]
newest = "at"
rank   = "status"
index  = [["status"]]

[table.columns]
id       = "/id"
at       = { from = "/at", type = "timestamp" }
status   = { from = "/status", values = ["open", "paid"], required = true }
amount   = { from = "/amount", type = "money", currency = "currency", about = "what is owed" }
currency = { from = "/currency", type = "currency" }

[[table]]
name  = "lines"
types = ["order.*"]
at    = "/lines/*"
of    = { table = "orders", on = ["id"] }

[table.columns]
id  = "/id"
sku = "sku"

[[table]]
name   = "shipments"
mode   = "latest"
key    = ["id"]
newest = "at"

[table.columns]
id     = "/id"
at     = { from = "/at", type = "timestamp" }
parcel = "/parcel"

[[join]]
name = "order_states"
of   = ["orders", "shipments"]

[[total]]
name = "order_sums"
of   = "orders"
by   = ["status", "currency"]
sums = { owed = "amount", rest = "amount - 1" }
must = ["rest <= owed", "rows > 0"]
"""


def read(text: str) -> Pipeline:
    """Return a pipeline that `lint` accepts."""
    files = {"shop.toml": text.encode()}
    pipeline, problems = read_pipeline("shop.toml", files.get)
    assert pipeline is not None, problems
    errors = [each for each in lint(pipeline, files.get, "shop.toml") if each.level == "error"]
    assert errors == []
    return pipeline


def applied(pipeline: Pipeline, *, rows: int = 0) -> Existing:
    """Return what PostgreSQL would hold after a pipeline was applied."""
    pipeline = complete_histories(pipeline)
    tables = typed_tables(pipeline, {})
    return Existing(
        {
            table.name: ExistingTable(
                table.name,
                tuple(
                    ExistingColumn(
                        each.name,
                        each.sql_type,
                        each.required,
                        "C" if each.name in table.key and each.sql_type == "text" else "",
                    )
                    for each in (*table.columns, *table.added)
                ),
                table.key,
                tuple(ExistingIndex(index_name(table, each), each) for each in table.table.index),
                table.table.about,
                rows,
            )
            for table in tables
        },
        {
            view.name: ExistingView(
                view.name,
                tuple(ExistingColumn(each.name, each.sql_type, about=each.about or "") for each in view.columns),
                view.comment,
            )
            for view in views_of(pipeline, tables, NOTHING)
        },
    )


def after(text: str, *, rows: int = 0) -> tuple[Change, ...]:
    """Return what applying another text changes after SHOP was applied."""
    before = read(SHOP)
    return changes_of(read(text), {}, applied(before, rows=rows), before)


def lines(changes: Iterable[Change]) -> list[str]:
    """Return changes as people read them."""
    return [each.line for each in changes]


def statements(changes: Iterable[Change]) -> str:
    """Return the SQL of changes as one text."""
    return ";\n".join(sql for each in changes for sql in each.statements)
