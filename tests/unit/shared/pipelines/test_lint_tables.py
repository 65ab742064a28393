"""Tables whose keys, conditions, checks and totals do not hold together are told."""

import pytest

from support.pipeline_texts import COLUMNS, HEAD, LATEST, TABLE, assert_told, lint_text

MONEY = (
    COLUMNS + 'n = { type = "integer" }\ns = "/s"\nc1 = { type = "currency" }\nc2 = { type = "currency" }\n'
    'a = { type = "money", currency = "c1" }\nb = { type = "money", currency = "c1", min = 0 }\n'
    'd = { type = "money", currency = "c2" }\n'
)
CHILD = '[[table]]\nname = "lines"\nof = { table = "orders", on = ["id"] }\n[table.columns]\nid = "/id"\n'
OTHER = '[[table]]\nname = "other"\nmode = "latest"\nkey = ["id"]\nnewest = "n"\n[table.columns]\nid = "/id"\n'
OTHER += 'n = { type = "integer" }\n'
HISTORIES = '[[table]]\nname = "h"\nlike = "g"\n[[table]]\nname = "g"\nlike = "other"\n'
CHILD_WITH_KEY = CHILD.replace("of = ", 'mode = "latest"\nkey = ["id"]\nnewest = "n"\nof = ') + 'n = "/n"\n'
MAPPED = 's = { values = { A = "x" }, otherwise = { value = "y" } }\n'
STATUS = 'status = { values = ["a", "b"], required = true }\n'


def latest(lines: str = "", columns: str = "", *, without: str = "") -> str:
    """Return a latest table with more lines and columns, or without a line."""
    text = LATEST.replace(f"{without}\n", "") if without else LATEST
    return text.replace("[table.columns]", f"{lines}[table.columns]") + columns


@pytest.mark.parametrize(
    ("text", "path", "detail"),
    [
        (TABLE, "columns", "is missing; write [table.columns]"),
        (COLUMNS + "".join(f"c{n} = '/c'\n" for n in range(201)), "columns", "has more than 200 columns"),
        (TABLE + 'types = ["a*b"]\n[table.columns]\na = "/a"\n', "types[0]", "one * at its end"),
        (TABLE + 'types = ["a", "a"]\n[table.columns]\na = "/a"\n', "types[1]", "twice"),
        (TABLE + 'at = "lines.items"\n[table.columns]\na = "/a"\n', "at", "did you mean /lines/items"),
        (TABLE + 'at = "./lines/*"\n[table.columns]\na = "/a"\n', "at", "must begin with /"),
        (TABLE + 'at = "@row"\n[table.columns]\na = "/a"\n', "at", "must begin with /"),
        (TABLE + 'at = "/a"\nexcept = ["x"]\n[table.columns]\na = "/a"\n', "except", "an `at` that ends in /*"),
        (TABLE + 'except = ["x"]\n[table.columns]\na = "/a"\n', "except", "an `at` that ends in /*"),
        (TABLE + 'when = { "a.b" = 1 }\n[table.columns]\na = "/a"\n', 'when."a.b"', "did you mean /a/b"),
        (TABLE + 'when = { "/a/*/b" = 1 }\n[table.columns]\na = "/a"\n', 'when."/a/*/b"', "as the table's `at`"),
        (TABLE + 'when = { "/a" = [] }\n[table.columns]\na = "/a"\n', 'when."/a"', "it never holds"),
        (TABLE + 'when = { "/a" = [1, 1] }\n[table.columns]\na = "/a"\n', 'when."/a"[1]', "twice"),
        (latest(without='key = ["id"]'), "key", "is missing"),
        (latest(without='newest = "as_of"'), "newest", "is missing"),
        (latest().replace('key = ["id"]', 'key = ["idd"]'), "key[0]", "did you mean id?"),
        (latest().replace('key = ["id"]', 'key = ["id", "id"]'), "key[1]", "twice"),
        (latest().replace('id = "/id"', "id = { optional = true }"), "key[0]", "id is optional"),
        (latest().replace('id = "/id"', 'id = { type = "json" }'), "key[0]", "which is no key"),
        (latest().replace('newest = "as_of"', 'newest = "as_off"'), "newest", "did you mean as_of?"),
        (latest().replace('newest = "as_of"', 'newest = "s"') + 's = "/s"\n', "newest", "only date, decimal, integer"),
        (latest().replace('type = "timestamp"', 'type = "date", optional = true'), "newest", "as_of is optional"),
        (latest().replace('from = "/at", type = "timestamp"', 'value = 1, type = "integer"'), "newest", "fixed value"),
        (TABLE + 'key = ["a"]\n[table.columns]\na = "/a"\n', "key", "is for latest tables"),
        (TABLE + 'newest = "a"\n[table.columns]\na = "/a"\n', "newest", "is for latest tables"),
        (TABLE + 'gone = { "/a" = true }\n[table.columns]\na = "/a"\n', "gone", "is for latest tables"),
        (latest('gone = { "a.b" = true }\n'), 'gone."a.b"', "did you mean /a/b"),
        (latest('rank = "statsu"\n', STATUS), "rank", "did you mean status?"),
        (latest('rank = "status"\n', 'status = "/s"\n'), "rank", "status has no `values`"),
        (latest('rank = "n"\n', 'n = { type = "integer" }\n'), "rank", "a rank is the order of texts"),
        (latest('rank = { column = "status", order = ["a", "c", "b"] }\n', STATUS), "rank.order[1]", "value of status"),
        (latest('rank = { column = "status", order = ["a", "b", "a"] }\n', STATUS), "rank.order[2]", "twice"),
        (latest('rank = { column = "s", order = [] }\n', 's = "/s"\n'), "rank.order", "is empty"),
        (latest('index = [["idd"]]\n'), "index[0][0]", "did you mean id?"),
        (latest("index = [[]]\n"), "index[0]", "is empty"),
        (latest('index = [["id"], ["id"]]\n'), "index[1]", "twice"),
        (latest('like = "lines"\n'), "like", "there is no table lines"),
        (latest('like = "orders"\n'), "like", "names this table itself"),
    ],
)
def test_a_table_that_cannot_be_meant_is_told(text: str, path: str, detail: str) -> None:
    assert_told(lint_text(text), f"table[0].{path}", detail)


@pytest.mark.parametrize(
    ("text", "path", "detail"),
    [
        (latest('index = [["id", "as_of"]]\n'), "index[0]", "as_of is newest"),
        (latest('rank = "status"\nindex = [["status"]]\n', STATUS), "index[0]", "status is rank"),
        (latest().replace('"/at"', '"@received_at"'), "newest", "use @file_at"),
        (latest().replace('key = ["id"]', 'key = ["id", "as_of"]'), "newest", "is in the key"),
        (latest('rank = { column = "status", order = ["b"] }\n', STATUS), "rank.order", "leaves out values"),
    ],
)
def test_a_table_that_may_be_a_mistake_is_a_warning(text: str, path: str, detail: str) -> None:
    assert_told(lint_text(text), f"table[0].{path}", detail, "warning")


@pytest.mark.parametrize(
    "text",
    [
        latest('rank = "status"\n', STATUS),
        latest('rank = { column = "s", order = ["x"] }\n', 's = "/s"\n'),
        latest(
            'rank = { column = "s", order = ["x", "y"] }\n',
            's = { values = { A = "x" }, otherwise = { value = "y" } }\n',
        ),
        latest('gone = { "/deleted" = { present = true } }\ntypes = ["a", "b.*", "*"]\n'),
        latest() + CHILD,
        latest() + '[[table]]\nname = "history"\nlike = "orders"\n',
        TABLE + 'index = [["a"]]\n[table.columns]\na = "/a"\n',
    ],
)
def test_a_table_that_holds_together_is_silent(text: str) -> None:
    assert lint_text(text) == ()


@pytest.mark.parametrize(
    ("text", "path", "detail"),
    [
        (
            latest()
            + CHILD.replace("of = ", 'mode = "latest"\nkey = ["id"]\nnewest = "n"\nof = ')
            + 'n = { type = "date" }\n',
            "of",
            "append",
        ),
        (latest() + CHILD.replace('"orders"', '"order"'), "of.table", "did you mean orders?"),
        (latest() + CHILD.replace('"orders"', '"lines"'), "of.table", "is no latest table"),
        (
            latest() + CHILD.replace('on = ["id"]', 'on = ["id", "x"]') + 'x = "/x"\n',
            "of.on[1]",
            "no column of orders: x",
        ),
        (latest() + CHILD.replace('on = ["id"]', 'on = ["id", "as_of"]'), "of.on[1]", "no column of lines: as_of"),
        (
            latest() + CHILD.replace('id = "/id"', 'id = { type = "integer" }'),
            "of.on[0]",
            "integer here and text in",
        ),
        (latest() + CHILD.replace('["id"]', "[]"), "of.on", "must hold the key of orders; id is missing"),
        (
            latest() + OTHER + '[[table]]\nname = "h"\nlike = "g"\n[[table]]\nname = "g"\nlike = "other"\n',
            "like",
            "name that one, other",
        ),
    ],
)
def test_a_table_that_refers_to_another_wrongly_is_told(text: str, path: str, detail: str) -> None:
    number = 2 if path == "like" else 1

    assert_told(lint_text(text), f"table[{number}].{path}", detail)


@pytest.mark.parametrize(
    ("check", "detail"),
    [
        ("a", "must compare two sides once"),
        ("a < b < n", "must compare two sides once"),
        ("a <= b * 2", "multiplication and division"),
        ("a <= x", "no column of orders: x"),
        ("a <= s", "s is of type text; only decimal, integer, money"),
        ("a <= d", "different currency columns: c1, c2"),
        ("a = b + d", "different currency columns: c1, c2"),
        ("a = sum(lines.x)", "there is no table lines"),
        ("n = count(lines)", "there is no table lines"),
        ("a = sum(orders.x)", "no column of orders: x"),
        ("a = sum(orders.s)", "s is of type text"),
        ("a = sum(orders.d)", "different currency columns: c1, c2"),
        ("0 <= 1", "compares numbers only"),
    ],
)
def test_a_check_that_cannot_be_computed_is_told(check: str, detail: str) -> None:
    text = MONEY.replace("[table.columns]", f'check = ["{check}"]\n[table.columns]')

    assert_told(lint_text(text), "table[0].check[0]", detail)
    assert_told(lint_text(text.replace(f'"{check}"', f'{{ must = "{check}" }}')), "table[0].check[0].must", detail)


def test_checks_that_can_be_computed_are_silent() -> None:
    checks = '["a <= b", "b >= 0", "a - b = sum(orders.a)", "n = count(orders)", { must = "n > 1.5", empty = 0 }]'

    assert lint_text(MONEY.replace("[table.columns]", f"check = {checks}\n[table.columns]")) == ()


@pytest.mark.parametrize(
    ("lines", "path", "detail"),
    [
        ('of = "order"', "of", "did you mean orders?"),
        ('of = "orders"\nby = ["ss"]', "by[0]", "no column of orders: ss"),
        ('of = "orders"\nby = ["s", "s"]', "by[1]", "twice"),
        ('of = "orders"\nsums = { x = "n + y" }', "sums.x", "no column of orders: y"),
        ('of = "orders"\nsums = { x = "s" }', "sums.x", "s is of type text"),
        ('of = "orders"\nsums = { x = "n +" }', "sums.x", "cannot be read"),
        ('of = "orders"\nsums = { x = "sum(orders.n)" }', "sums.x", "is summed over the rows already"),
        ('of = "orders"\nsums = { rows = "n" }', "sums.rows", "is what each total has already"),
        ('of = "orders"\nsums = { X = "n" }', "sums.X", "small letter"),
        ('of = "orders"\nby = ["n"]\nsums = { n = "n" }', "sums.n", "is the name of a column in `by` too"),
        ('of = "orders"\nsums = { x = "a" }', "by", "lacks c1"),
        ('of = "orders"\nby = ["c1", "c2"]\nsums = { x = "a - d" }', "sums.x", "different currency columns"),
        ('of = "orders"\nsums = { x = "n" }\nmust = ["y = 0"]', "must[0]", "there is no sum y"),
        ('of = "orders"\nsums = { x = "n" }\nmust = ["x"]', "must[0]", "must compare"),
        ('of = "orders"\nsums = { x = "n" }\nmust = ["1 = 1"]', "must[0]", "compares numbers only"),
        ('of = "orders"\nsums = { x = "n" }\nmust = ["x = count(orders)"]', "must[0]", "name what is summed"),
        (
            'of = "orders"\nby = ["c1", "c2"]\nsums = { x = "a", y = "d" }\nmust = ["x = y"]',
            "must[0]",
            "different curr",
        ),
    ],
)
def test_a_total_that_cannot_be_computed_is_told(lines: str, path: str, detail: str) -> None:
    assert_told(lint_text(f'{MONEY}[[total]]\nname = "t"\n{lines}\n'), f"total[0].{path}", detail)


def test_a_total_by_currency_is_silent() -> None:
    total = '[[total]]\nname = "t"\nof = "orders"\nby = ["c1"]\nsums = { x = "a - b", y = "n" }\n'

    assert lint_text(MONEY + total + 'must = ["x = 0", "y <= rows"]\n') == ()


def test_amounts_of_one_fixed_currency_need_no_group() -> None:
    fixed = MONEY.replace('c1 = { type = "currency" }', 'c1 = { value = "EUR", type = "currency" }')

    assert lint_text(fixed + '[[total]]\nname = "t"\nof = "orders"\nsums = { x = "a" }\n') == ()


@pytest.mark.parametrize(
    ("of", "path", "detail"),
    [
        ('["orders"]', "join[0].of", "two tables or more"),
        ('["orders", "orders"]', "join[0].of[1]", "twice"),
        ('["orders", "lines"]', "join[0].of[1]", "lines is no latest table"),
        ('["orders", "othr"]', "join[0].of[1]", "did you mean other?"),
        ('["orders", "keyed"]', "join[0].of[1]", "keyed has another key than orders"),
        ('["orders", "counted"]', "join[0].of[1]", "counted has another key than orders"),
    ],
)
def test_a_join_of_tables_without_a_common_key_is_told(of: str, path: str, detail: str) -> None:
    keyed = OTHER.replace('"other"', '"keyed"').replace('key = ["id"]', 'key = ["id", "k"]') + 'k = "/k"\n'
    counted = OTHER.replace('"other"', '"counted"').replace('id = "/id"', 'id = { type = "integer" }')
    text = latest() + CHILD + OTHER + keyed + counted

    problems = lint_text(f'{text}[[join]]\nname = "j"\nof = {of}\n')

    assert (path, True) in [(each.path, detail in each.detail) for each in problems]


def test_an_attribute_has_no_elements() -> None:
    problems = lint_text(TABLE + 'at = "@row"\nexcept = ["x"]\n[table.columns]\na = "/a"\n')

    assert [each.path for each in problems] == ["table[0].except", "table[0].at"]


def test_a_join_of_tables_with_a_common_key_is_silent() -> None:
    assert lint_text(latest() + OTHER + '[[join]]\nname = "j"\nof = ["orders", "other"]\n') == ()


def test_a_column_of_a_history_is_told_once() -> None:
    problems = lint_text(
        HEAD + latest().removeprefix(HEAD).replace('"/id"', '"a.b"') + '[[table]]\nname = "h"\nlike = "orders"\n'
    )

    assert_told(problems, "table[0].columns.id.from", "did you mean /a/b")
