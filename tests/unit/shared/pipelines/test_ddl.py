"""What applying a pipeline changes: DDL that only adds, and refusals where stored rows would be wrong."""

import msgspec
import pytest

from shared.pipelines.ddl.changes import changes_of
from shared.pipelines.ddl.existing import NOTHING, Existing, ExistingIndex
from support.typed_pipelines import SHOP, after, applied, lines, read, statements


def test_a_new_pipeline_creates_its_tables_and_then_their_views() -> None:
    changes = changes_of(read(SHOP), {}, NOTHING)

    assert lines(changes) == [
        "+ table lines  2 columns, key (_event, _part), append",
        "+ table orders  5 columns, key (id), latest",
        "+ index on orders (status)",
        "+ table shipments  3 columns, key (id), latest",
        *(f"+ view {name}" for name in ("orders", "lines", "shipments", "orders_totals", "order_states", "order_sums")),
    ]
    assert {each.kind for each in changes} == {"compatible"}


def test_a_latest_table_leaves_room_for_updates_and_compares_the_texts_of_its_key_byte_by_byte() -> None:
    [create] = [each.statements[0] for each in changes_of(read(SHOP), {}, NOTHING) if each.what == "table orders"]

    assert create == (
        'CREATE TABLE "rows"."orders_1" (\n'
        '    "id" text COLLATE "C" NOT NULL,\n'
        '    "at" timestamptz,\n'
        '    "status" text,\n'
        '    "amount" numeric,\n'
        '    "currency" text,\n'
        '    "_event" bigint NOT NULL,\n'
        '    "_part" integer NOT NULL,\n'
        '    "_pipeline" integer NOT NULL,\n'
        '    "_loaded_at" timestamptz NOT NULL,\n'
        '    "_rank" smallint NOT NULL,\n'
        '    "_gone" boolean NOT NULL,\n'
        '    PRIMARY KEY ("id")\n'
        ") WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02)"
    )


def test_an_append_table_is_keyed_by_event_and_part() -> None:
    [create] = [each.statements[0] for each in changes_of(read(SHOP), {}, NOTHING) if each.what == "table lines"]

    assert 'PRIMARY KEY ("_event", "_part")\n)' in create
    assert '"id" text,' in create
    assert "_gone" not in create


def test_what_is_applied_is_nothing_to_do() -> None:
    assert after(SHOP, rows=5) == ()


def test_no_statement_drops_renames_or_rewrites() -> None:
    text = SHOP.replace('parcel = "/parcel"', 'parcel = "/parcel"\nweight = { from = "/weight", type = "decimal" }')
    changes = (*changes_of(read(SHOP), {}, NOTHING), *after(text, rows=5))

    for word in (
        "DROP TABLE",
        "DROP COLUMN",
        "DROP VIEW",
        "RENAME",
        "ALTER COLUMN",
        "SET NOT NULL",
        "DELETE",
        "UPDATE",
    ):
        assert word not in statements(changes)


@pytest.mark.parametrize(
    ("before", "now", "what"),
    [
        ('key    = ["id"]\nnewest = "at"\n\n', 'key    = ["id", "parcel"]\nnewest = "at"\n\n', "table shipments: key"),
        ('newest = "at"\nrank   = "status"', 'newest = "seen"\nrank   = "status"', "table orders: newest"),
        ('values = ["open", "paid"]', 'values = ["paid", "open"]', "table orders: rank"),
        ('rank   = "status"\n', "", "table orders: rank"),
        ('at    = "/lines/*"', 'at    = "/rows/*"', "table lines: at"),
        ('type = "timestamp" }\nparcel', 'type = "date" }\nparcel', "column shipments.at: type"),
        ('types  = ["order.*"]\nwhen', 'types  = ["order.paid"]\nwhen', "table orders: types"),
        ('"/live" = [true]', '"/live" = [true], "/test" = false', "table orders: when"),
        ('"/live" = [true]', '"/live" = [1]', "table orders: when"),
        ('at    = "/lines/*"', 'at    = "/lines/*"\nexcept = ["Date"]', "table lines: except"),
    ],
)
def test_what_would_make_stored_rows_wrong_is_structural_and_says_how_many_they_are(
    before: str, now: str, what: str
) -> None:
    text = SHOP.replace(before, now)
    assert text != SHOP
    if "key" in now:
        text = text[: text.index("[[join]]")] + text[text.index("[[total]]") :]
    if "seen" in now:
        text = text.replace("status   = {", 'seen     = { from = "/seen", type = "timestamp" }\nstatus   = {')

    structural = [each for each in after(text, rows=1200) if each.kind == "structural"]

    assert [each.what for each in structural] == [what]
    assert "about 1,200 rows are stored" in structural[0].detail


def test_of_an_empty_table_what_no_row_contradicts_is_compatible() -> None:
    changes = after(SHOP.replace('types  = ["order.*"]\nwhen', 'types  = ["order.paid"]\nwhen'))

    assert [(each.what, each.kind) for each in changes] == [("table orders: types", "compatible")]


def test_of_an_empty_table_a_type_is_refused_with_the_way_out() -> None:
    changes = after(SHOP.replace('type = "timestamp" }\nparcel', 'type = "date" }\nparcel'))

    [refused] = [each for each in changes if each.kind == "structural" and each.what.startswith("column")]
    assert 'DROP TABLE "rows"."shipments_1" CASCADE by hand' in refused.detail


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ('types  = ["order.*"]\nwhen', 'types  = ["order.*", "refund"]\nwhen'),
        ('types  = ["order.*"]\nwhen', 'types  = ["o*"]\nwhen'),
        ('when   = { "/live" = [true] }\n', ""),
        ('"/live" = [true]', '"/live" = [true, false]'),
        ('values = ["open", "paid"]', 'values = ["open", "paid", "shipped"]'),
        ('source = "shop-*"', 'source = ["shop-*", "kiosk"]'),
        ('parcel = "/parcel"', 'parcel = { from = ["/parcel", "/box"] }'),
    ],
)
def test_what_takes_more_than_before_is_compatible(before: str, now: str) -> None:
    text = SHOP.replace(before, now)
    assert text != SHOP

    changes = after(text, rows=5)

    assert changes
    assert {each.kind for each in changes} == {"compatible"}


def test_a_source_or_table_that_is_gone_from_the_file_is_told_and_kept() -> None:
    text = SHOP.replace('source = "shop-*"', 'source = "kiosk"')
    start, end = text.index('[[table]]\nname   = "shipments"'), text.index("[[total]]")

    changes = after(text[:start] + text[end:], rows=5)

    assert lines(changes) == [
        "+ source kiosk",
        "- source shop-*  its events are no longer taken; their rows are kept",
        "- table shipments  is no longer written; kept, as it is",
    ]


def test_an_index_on_rows_is_built_beside_writers_and_one_on_a_new_column_after_it() -> None:
    text = SHOP.replace('index  = [["status"]]', 'index  = [["status"], ["currency"], ["who"]]').replace(
        "status   = {", 'who      = "/who"\nstatus   = {'
    )

    indexes = [each for each in after(text, rows=5) if each.what.startswith("index")]

    assert [(each.what, each.moment) for each in indexes] == [
        ("index on orders (currency)", "before"),
        ("index on orders (who)", "after"),
    ]
    assert indexes[0].statements == ('CREATE INDEX CONCURRENTLY "orders_1_currency" ON "rows"."orders_1" ("currency")',)


def test_an_index_whose_building_was_cut_off_is_dropped_and_built_again() -> None:
    existing = applied(read(SHOP), rows=5)
    broken = msgspec.structs.replace(
        existing.tables["orders_1"], indexes=(ExistingIndex("orders_1_status", ("status",), valid=False),)
    )

    [change] = changes_of(read(SHOP), {}, Existing({**existing.tables, "orders_1": broken}, existing.views))

    assert change.statements == (
        'DROP INDEX CONCURRENTLY "rows"."orders_1_status"',
        'CREATE INDEX CONCURRENTLY "orders_1_status" ON "rows"."orders_1" ("status")',
    )


def test_a_column_that_people_cannot_do_without_is_not_added_to_rows() -> None:
    existing = applied(read(SHOP), rows=5)
    orders = existing.tables["orders_1"]
    damaged = msgspec.structs.replace(orders, columns=tuple(each for each in orders.columns if each.name != "_rank"))

    changes = changes_of(read(SHOP), {}, Existing({**existing.tables, "orders_1": damaged}, existing.views))

    assert [(each.kind, each.detail) for each in changes] == [
        ("structural", "rows.orders_1 has no column _rank, which cannot be added to rows")
    ]


def test_an_index_of_long_names_has_a_name_that_is_not_cut() -> None:
    name = "c" * 50
    text = SHOP.replace('index  = [["status"]]', f'index  = [["{name}", "currency"]]').replace(
        "status   = {", f'{name} = "/c"\nstatus   = {{'
    )

    [index] = [each.statements[0] for each in changes_of(read(text), {}, NOTHING) if each.what.startswith("index")]

    assert index.startswith('CREATE INDEX "orders_1_2_5" ON')
