"""The views of a pipeline: they only ever get more columns, at their end."""

import msgspec

from shared.pipelines.ddl.changes import changes_of
from shared.pipelines.ddl.existing import NOTHING, Existing, ExistingColumn
from shared.pipelines.ddl.sql import literal
from support.typed_pipelines import SHOP, after, applied, lines, read, statements


def test_an_added_column_may_be_empty_and_stands_at_the_end_of_the_views() -> None:
    text = SHOP.replace(
        'status   = { from = "/status"', 'who      = { from = "/who", required = true }\nstatus   = { from = "/status"'
    )

    changes = after(text, rows=5)

    assert [each.line for each in changes if "view" not in each.what] == ["+ column orders.who  text"]
    assert 'ALTER TABLE "rows"."orders_1" ADD COLUMN "who" text;' in statements(changes)
    [view] = [each.statements[0] for each in changes if each.what == "view orders"]
    assert view.index('"_loaded_at"') < view.index('own."who" AS "who"')
    [joined] = [each.statements[0] for each in changes if each.what == "view order_states"]
    assert joined.endswith('FULL JOIN "data"."shipments" AS "shipments" USING ("id")')
    assert joined.index("GREATEST") < joined.index('AS "who"')


def test_a_column_that_the_file_takes_no_longer_is_kept_in_table_and_view() -> None:
    changes = after(SHOP.replace('parcel = "/parcel"\n', ""), rows=5)

    assert lines(changes) == ["- column shipments.parcel  is no longer written; kept, empty from now on"]


def test_the_comment_of_a_column_that_is_kept_stays() -> None:
    text = SHOP.replace('parcel = "/parcel"', 'parcel = { from = "/parcel", about = "its number" }')
    without = read(text.replace('parcel = { from = "/parcel", about = "its number" }', ""))

    changes = changes_of(without, {}, applied(read(text), rows=5))

    assert [each.statements for each in changes] == [()]


def test_a_sum_that_the_file_takes_no_longer_is_empty_in_the_view() -> None:
    text = SHOP.replace('owed = "amount", rest = "amount - 1"', 'rest = "amount - 1"').replace('"rest <= owed", ', "")

    [view] = [each.statements[0] for each in after(text) if each.what == "view order_sums"]

    assert 'NULL::numeric AS "owed"' in view


def test_a_view_that_somebody_dropped_is_made_again_and_a_column_is_added_again() -> None:
    existing = applied(read(SHOP), rows=5)
    orders = existing.tables["orders_1"]
    damaged = Existing(
        {
            **existing.tables,
            "orders_1": msgspec.structs.replace(
                orders, columns=tuple(each for each in orders.columns if each.name != "amount")
            ),
        },
        {name: view for name, view in existing.views.items() if name != "orders"},
    )

    assert lines(changes_of(read(SHOP), {}, damaged)) == ["+ column orders.amount  numeric", "+ view orders"]


def test_a_view_of_another_shape_or_of_another_role_is_left_alone() -> None:
    existing = applied(read(SHOP))
    view = existing.views["shipments"]
    another = msgspec.structs.replace(view, columns=(ExistingColumn("id", "bigint"), *view.columns[1:]))
    foreign = msgspec.structs.replace(view, owned=False)

    for found, told in ((another, "has a column id of type bigint, not text"), (foreign, "belongs to another role")):
        changes = changes_of(read(SHOP), {}, Existing(existing.tables, {**existing.views, "shipments": found}))
        assert [each.kind for each in changes if each.what == "view shipments"] == ["structural"]
        assert any(told in each.detail for each in changes)


def test_columns_that_several_tables_of_a_join_have_are_called_by_their_tables() -> None:
    [joined] = [each.statements[0] for each in changes_of(read(SHOP), {}, NOTHING) if each.what == "view order_states"]

    assert '"orders"."at" AS "orders_at"' in joined
    assert '"shipments"."at" AS "shipments_at"' in joined
    assert '"orders"."status" AS "status"' in joined


def test_a_name_that_would_be_cut_is_refused() -> None:
    long = "a" * 30
    text = SHOP.replace('name   = "shipments"', f'name   = "{long}"').replace('"shipments"', f'"{long}"')
    text = text.replace('parcel = "/parcel"', f'{"b" * 40} = "/parcel"').replace(
        "status   = { from", f'{"b" * 40} = "/parcel"\nstatus   = {{ from'
    )

    refused = [each.detail for each in changes_of(read(text), {}, NOTHING) if each.kind == "structural"]

    assert refused == [
        (
            f"data.order_states would have a column {long}_{'b' * 40}, which is too long for PostgreSQL; "
            "choose shorter names"
        )
    ]


def test_a_child_shows_the_lines_of_the_event_that_made_the_parents_row() -> None:
    [view] = [each.statements[0] for each in changes_of(read(SHOP), {}, NOTHING) if each.what == "view lines"]

    assert view.endswith(
        'FROM "rows"."lines_1" AS own\n'
        'JOIN "rows"."orders_1" AS parent ON parent."id" = own."id" AND parent."_event" = own."_event"'
        ' AND NOT parent."_gone"'
    )


def test_totals_count_an_empty_amount_as_nothing_where_several_columns_are_summed() -> None:
    [view] = [each.statements[0] for each in changes_of(read(SHOP), {}, NOTHING) if each.what == "view order_sums"]

    assert 'sum("amount")::numeric AS "owed"' in view
    assert '(coalesce(sum("amount"), 0) - 1 * count(*))::numeric AS "rest"' in view
    assert "AND + " not in view
    assert 'count(*) > 0 AS "holds"' in view
    assert view.endswith('FROM "data"."orders"\nGROUP BY "status", "currency"')


def test_a_text_of_a_comment_is_quoted() -> None:
    changes = changes_of(read(SHOP.replace("Each order's", "It's; DROP")), {}, NOTHING)

    assert "COMMENT ON TABLE \"rows\".\"orders_1\" IS 'It''s; DROP latest state.'" in statements(changes)
    assert literal("a'b") == "'a''b'"


def view_of(name: str, text: str, written: dict[int, str]) -> str:
    """Return the statement of a view where versions with these columns of its table are registered."""
    columns = {number: frozenset(names.split()) for number, names in written.items()}
    changes = changes_of(read(text), {}, applied(read(SHOP), rows=5), None, {f"{name}_1": columns})
    [view] = [each.statements[0] for each in changes if each.what == f"view {name}"]
    return view


WIDER = SHOP.replace('status   = { from = "/status"', 'who      = "/who"\nstatus   = { from = "/status"')


def test_a_row_of_a_version_without_the_column_shows_nothing_there() -> None:
    view = view_of("orders", WIDER, {1: "id amount", 2: "id amount who", 3: "id amount"})

    assert """CASE WHEN own."_pipeline" <> ALL ('{1,3}'::integer[]) THEN own."who" END AS "who\"""" in view
    assert 'own."amount" AS "amount"' in view
    assert 'own."_pipeline" AS "_pipeline"' in view


def test_a_column_that_the_file_takes_no_longer_is_shown_of_rows_of_versions_that_took_it() -> None:
    view = view_of("shipments", SHOP.replace('parcel = "/parcel"\n', ""), {1: "id parcel", 2: "id"})

    assert """CASE WHEN own."_pipeline" = ANY ('{1}'::integer[]) THEN own."parcel" END AS "parcel\"""" in view


def test_rows_that_belong_to_one_event_need_none_of_this() -> None:
    history = '[[table]]\nname = "history"\nlike = "orders"\n'

    view = view_of("history", WIDER + history, {1: "id amount", 2: "id amount who"})

    assert 'own."who" AS "who"' in view
