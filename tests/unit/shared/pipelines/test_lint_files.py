"""What a file is of, what must hold for it whole, and the files beside it are told where they are wrong."""

import pytest

from support.pipeline_texts import COLUMNS, HEAD, assert_told, lint_text

ORDERS = COLUMNS + 'a = "/a"\nn = { type = "integer" }\nj = { type = "json" }\ncur = { type = "currency" }\n'
ORDERS += 'm = { type = "money", currency = "cur" }\n'
SECOND = '[[table]]\nname = "second"\n[table.columns]\nz = "/z"\n'
LIST = {"lists/countries.csv": "name,iso2\nNorway,NO\n"}
LISTED = 'listed = "a"\nin = { list = "lists/countries.csv", column = "iso2" }\n'


@pytest.mark.parametrize(
    ("lines", "path", "detail"),
    [
        ("", "", "must have exactly one rule of unique, listed"),
        ('unique = ["a"]\nfilled = "a"', "", "has unique and filled"),
        ("unique = []", ".unique", "is empty"),
        ('unique = ["aa"]', ".unique[0]", "no column of orders: aa"),
        ('unique = ["a", "a"]', ".unique[1]", "twice"),
        ('unique = ["a"]\nby = ["n"]', ".by", "belongs to ascending, not to unique"),
        ('unique = ["a"]\nshare = 0.5', ".share", "belongs to complete and filled"),
        ('unique = ["a"]\nmust = ["a = 1"]', ".must", "belongs to sum"),
        ('filled = "b"', ".filled", "no column of orders: b"),
        ('filled = "a"\nshare = 1.5', ".share", "above 0 and at most 1"),
        ('filled = "a"\nshare = 0', ".share", "above 0 and at most 1"),
        ('filled = "a"\ntable = "order"', ".table", "did you mean orders?"),
        ('listed = "a"', ".in", "is missing"),
        ('ascending = "j"', ".ascending", "j is of type json, which has no order"),
        ('ascending = "n"\nby = ["b"]', ".by[0]", "no column of orders: b"),
        ('complete = { column = "a", from = 1, to = 2 }', ".complete.column", "it must be an integer"),
        ('complete = { column = "b", from = 1, to = 2 }', ".complete.column", "no column of orders: b"),
        ('complete = { column = "n", from = 3, to = 2 }', ".complete.from", "is above `to`"),
        ('complete = { column = "n", from = 0, to = 1000000 }', ".complete.to", "1,000,000"),
        ('complete = { column = "n", from = 1, to = 2, by = ["b"] }', ".complete.by[0]", "no column of orders: b"),
        ("rows = {}", ".rows", "needs `min` or `max`"),
        ("rows = { min = -1 }", ".rows.min", "must not be negative"),
        ("rows = { min = 2, max = 1 }", ".rows.min", "is above max"),
        ('sum = { s = "n" }', ".must", "is missing"),
        ('sum = { s = "a" }\nmust = ["s = 0"]', ".sum.s", "a is of type text"),
        ('sum = { s = "n" }\nmust = ["t = 0"]', ".must[0]", "there is no sum t"),
        ("sum = {}\nmust = ['rows = 0']", ".sum", "is empty"),
    ],
)
def test_a_check_of_a_file_that_cannot_be_meant_is_told(lines: str, path: str, detail: str) -> None:
    assert_told(lint_text(f"{ORDERS}[[file_check]]\n{lines}\n"), f"file_check[0]{path}", detail)


@pytest.mark.parametrize(
    "lines",
    [
        'unique = ["a", "n"]',
        'ascending = "n"\nby = ["a"]',
        'complete = { column = "n", from = 1, to = 9, by = ["a"] }\nshare = 0.95\nlevel = "warning"',
        'filled = "a"\nshare = 0.9',
        "rows = { min = 1, max = 1 }",
        'sum = { s = "n" }\nmust = ["s = rows"]',
        LISTED,
    ],
)
def test_a_check_of_a_file_that_holds_together_is_silent(lines: str) -> None:
    assert lint_text(f"{ORDERS}[[file_check]]\n{lines}\n", LIST) == ()


def test_a_check_names_its_table_where_there_are_several() -> None:
    check = '[[file_check]]\nunique = ["z"]\n'

    assert_told(lint_text(ORDERS + SECOND + check), "file_check[0].table", "is missing; there are orders, second")
    assert lint_text(ORDERS + SECOND + check + 'table = "second"\n') == ()
    assert lint_text(ORDERS + SECOND + "[[file_check]]\nrows = { min = 1 }\n") == ()


def test_a_sum_of_amounts_in_whatever_currency_is_a_warning() -> None:
    problems = lint_text(ORDERS + '[[file_check]]\nsum = { s = "m" }\nmust = ["s = 0"]\n')

    assert_told(problems, "file_check[0].sum", "of whatever currency stands in cur", "warning")


@pytest.mark.parametrize(
    ("files", "path", "detail"),
    [
        ({}, "list", "is not there"),
        (
            {"lists/countries.csv": "name,iso3\n"},
            "column",
            "countries.csv: iso2; did you mean iso3?",
        ),
        ({"lists/countries.csv": b"\xff\xfe"}, "list", "is no CSV file in UTF-8"),
        ({"lists/countries.csv": b"a" * 200_000}, "list", "is no CSV file in UTF-8"),
        ({"lists/countries.csv": b"a\n" * (1 << 20)}, "list", "is larger than 1 MiB"),
        ({"lists/countries.csv": b""}, "column", "no column in lists/countries.csv: iso2"),
    ],
)
def test_a_list_that_cannot_be_used_is_told(files: dict[str, str | bytes], path: str, detail: str) -> None:
    assert_told(lint_text(f"{ORDERS}[[file_check]]\n{LISTED}", files), f"file_check[0].in.{path}", detail)


@pytest.mark.parametrize(
    ("schema", "detail"),
    [
        (None, "is not there"),
        (b"{", "is no JSON"),
        (b"\xff", "is no JSON"),
        (b"[" * 5000, "is no JSON"),
        (b"[]", "must be an object"),
        (b" " * (1 << 20) + b"{}", "is larger than 1 MiB"),
        (b'{"$schema": "http://json-schema.org/draft-07/schema#"}', "another draft of JSON Schema than 2020-12"),
        (b'{"properties": {"a": {"$ref": "https://example.com/a.json"}}}', "refers to https://example.com/a.json"),
        (b'{"allOf": [{"$ref": "other.json"}]}', "only parts of the same file"),
        (b'{"$dynamicRef": "file:///etc/passwd"}', "nothing is fetched"),
        (b'{"type": "txt"}', "is no JSON Schema that can be used"),
        (b'{"$ref": "#/$defs/a"}', "has a reference that is neither # nor"),
        (b'{"pattern": "(a"}', "is no JSON Schema that can be used"),
        (b'{"pattern": "^(?=a)"}', "look-around or a back reference"),
        (b'{"patternProperties": {"(a)\\\\1": {}}}', "look-around or a back reference"),
    ],
)
def test_a_schema_that_cannot_be_used_is_told(schema: bytes | None, detail: str) -> None:
    files = {} if schema is None else {"shop.schema.json": schema}

    problems = lint_text(HEAD + '[contract]\nschema = "shop.schema.json"\n', files)

    assert_told(problems, "contract.schema", detail)


def test_a_schema_of_its_own_parts_is_silent() -> None:
    schema = b'{"$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": "#/$defs/a", "$defs": {"a": {}}}'

    assert lint_text(HEAD + '[contract]\nschema = "a/b c.json"\n', {"a/b c.json": schema}) == ()


def test_a_file_elsewhere_is_refused_by_its_name() -> None:
    text = '[contract]\nschema = "../a.json"\n[money]\nunits = "minor"\nexponents = "/a.toml"\n'

    problems = lint_text(HEAD + text, {"../a.json": b"{}", "/a.toml": b""})

    assert [(each.path, each.line) for each in problems] == [("contract.schema", 5), ("money.exponents", 8)]
    assert ["leaves the folder" in problems[0].detail, "absolute path" in problems[1].detail] == [True, True]


@pytest.mark.parametrize(
    ("exponents", "detail"),
    [
        ("stripee", "there is no profile of minor units stripee; did you mean stripe?"),
        ("own.toml", "is not there"),
        ("bad.toml", "cannot be read"),
        ("deep.toml", "cannot be read"),
        ("odd.toml", "names ABC"),
    ],
)
def test_minor_units_of_nobody_are_told(exponents: str, detail: str) -> None:
    files = {"bad.toml": "UGX = ", "deep.toml": "a = " + "[" * 5000, "odd.toml": "ABC = 2"}
    text = f'{HEAD}[money]\nunits = "minor"\nexponents = "{exponents}"\n'

    assert_told(lint_text(text, files), "money.exponents", detail)


def test_minor_units_of_a_file_are_silent() -> None:
    text = COLUMNS + 'c = { type = "currency" }\n'
    text += 'm = { type = "money", currency = "c", units = "minor", exponents = "own.toml" }\n'

    assert lint_text(text, {"own.toml": "UGX = 2\n"}) == ()
    assert_told(lint_text(text), "table[0].columns.m.exponents", "is not there")


@pytest.mark.parametrize(
    ("text", "path", "detail"),
    [
        ('[event]\nid = "data.id"\n', "event.id", "did you mean /data/id"),
        ('[event]\nid = "@id"\n', "event.id", "is what this says"),
        ("[event]\nid = { join = [] }\n", "event.id.join", "is an empty list"),
        ('[event]\nid = { join = ["/a", "/b/*"] }\n', "event.id.join[1]", "goes through many elements"),
        ('[event]\ntype = "@type"\n', "event.type", "is what this says"),
        ('[event]\ntype = "@index"\n', "event.type", "is of an element"),
        ('[event]\noccurred_at = "a.b"\n', "event.occurred_at", "did you mean /a/b"),
        ('[event]\noccurred_at = { from = "a.b" }\n', "event.occurred_at.from", "did you mean /a/b"),
        ('[event]\noccurred_at = { from = "/a", as = "x" }\n', "event.occurred_at.as", "there are rfc3339"),
        ('[event]\noccurred_at = { from = "/a", as = "%Y-%m-%d %H" }\n', "event.occurred_at.zone", "is missing"),
        ('[event]\nignore = ["@file"]\n', "event.ignore[0]", "name a place of its payload"),
        ('[event]\nignore = ["a.b"]\n', "event.ignore[0]", "did you mean /a/b"),
        ('[mask]\n"a.b" = "drop"\n', 'mask."a.b"', "did you mean /a/b"),
        ('[mask]\n"@file" = "drop"\n', 'mask."@file"', "name a place of its payload"),
        ('[mask]\n"#3" = "drop"\n', 'mask."#3"', "is a position"),
        ('[personal]\nsubject = "a.b"\nkey = "k"\nplaces = ["/a"]\n', "personal.subject", "did you mean /a/b"),
        ('[personal]\nsubject = "/a/*"\nkey = "k"\nplaces = ["/a"]\n', "personal.subject", "many elements"),
        ('[personal]\nsubject = "/a"\nkey = ""\nplaces = ["/a"]\n', "personal.key", "is empty"),
        ('[personal]\nsubject = "/a"\nkey = "k"\nplaces = ["a.b"]\n', "personal.places[0]", "did you mean /a/b"),
    ],
)
def test_a_place_of_the_whole_pipeline_is_told(text: str, path: str, detail: str) -> None:
    assert_told(lint_text(HEAD + text), path, detail)


def test_places_of_the_whole_pipeline_are_silent() -> None:
    text = '[event]\nid = { join = ["./a", "/b/0/c"], with = ":" }\ntype = "@source"\nignore = ["/x/*/y", "z"]\n'
    text += '[mask]\n"/a/*/b" = "last4"\n[personal]\nsubject = "/a"\nkey = "k"\nplaces = ["/a/*"]\n'

    assert lint_text(HEAD + text) == ()


def test_a_person_without_places_is_a_warning() -> None:
    problems = lint_text(HEAD + '[personal]\nsubject = "/a"\nkey = "k"\n')

    assert_told(problems, "personal.places", "what is blanked", "warning")
