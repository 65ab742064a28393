"""A column whose options do not fit its type, place or table is told at the option."""

import pytest

from support.pipeline_texts import COLUMNS, HEAD, LATEST, assert_told, lint_text

COLUMN = "table[0].columns.a"
CURRENCY = 'cur = { type = "currency" }\n'


@pytest.mark.parametrize(
    ("options", "path", "detail"),
    [
        ('from = "data.object.id"', ".from", "did you mean /data/object/id"),
        ('from = "$.id"', ".from", "did you mean /id"),
        ('from = "@nothing"', ".from", "is no attribute"),
        ('from = ""', ".from", "is empty"),
        ('from = "/a~b"', ".from", "has a ~"),
        ("from = []", ".from", "is an empty list"),
        ('from = ["/a", "b.c"]', ".from[1]", "did you mean /b/c"),
        ("from = { join = [] }", ".from.join", "is an empty list"),
        ('from = { join = ["a", "b.c"] }', ".from.join[1]", "did you mean /b/c"),
        ('from = [{ from = "/a", negate = true }]', ".from[0].negate", "does not fit the type text"),
        ('from = "/a/*/b"', ".from", "as the table's `at`"),
        ('from = "./a/*/b"', ".from", "name them with the `at` of a table"),
        ('from = "@index", type = "integer"', ".from", "the table needs an `at` that ends in *"),
        ('from = "@key"', ".from", "the table needs an `at` that ends in *"),
        ('from = "@row"', ".from", '@row is a whole number; write type = "integer"'),
        ('from = "@file_at"', ".from", '@file_at is a point in time; write type = "timestamp"'),
        ('from = "@file", type = "integer"', ".from", "@file is a text"),
        ('value = "x", from = "/a"', ".value", "stands beside `from`"),
        ('value = "x", trim = true', ".trim", "changes nothing where `value` is given"),
        ('value = 1, type = "text"', ".value", "is no text"),
        ('value = true, type = "integer"', ".value", "is no integer"),
        ('value = "1,5", type = "decimal"', ".value", "is no decimal number"),
        ('value = "2026-01-01", type = "date"', ".value", "does not fit the type date"),
        ('value = "eur", type = "currency"', ".value", "is no currency"),
        ('value = "ZZ", type = "country"', ".value", "is no country"),
        ('zone = "UTC"', ".zone", "does not fit the type text; it is for date, timestamp"),
        ('digits = 2, type = "integer"', ".digits", "does not fit the type integer; it is for money"),
        ('min = 1, type = "boolean"', ".min", "does not fit the type boolean"),
        ("max = 1", ".max", "does not fit the type text"),
        ('negate = true, type = "date"', ".negate", "does not fit the type date"),
        ('units = "minor", type = "decimal"', ".units", "does not fit the type decimal"),
        ('case = "upper", type = "uuid"', ".case", "does not fit the type uuid"),
        ('trim = true, type = "json"', ".trim", "does not fit the type json"),
        ('values = ["1"], type = "uuid"', ".values", "does not fit the type uuid; a list is for country"),
        ('values = [true], type = "boolean"', ".values", "does not fit the type boolean"),
        ('values = ["1,5"], type = "decimal"', ".values[0]", "is no decimal number"),
        ('values = ["eur"], type = "currency"', ".values[0]", "is no currency"),
        ('values = ["xx"], type = "country"', ".values[0]", "is no country"),
        ('sign = { from = "/s", minus = ["-"] }', ".sign", "does not fit the type text"),
        ('sign = { from = "/s" }, type = "integer"', ".sign", "needs `minus` or `plus`"),
        ('sign = { from = "/s", minus = ["S"], plus = ["S"] }, type = "integer"', ".sign", "as minus and as plus"),
        ('sign = { from = "a.b", minus = ["S"] }, type = "integer"', ".sign.from", "did you mean /a/b"),
        ('as = "text"', ".as", "which is read from texts"),
        ('as = "unix", type = "integer"', ".as", "a layout is for timestamp and date"),
        ('as = "text", type = "timestamp", zone = "UTC"', ".as", "there are rfc3339, unix, unix_ms, unix_us"),
        ('as = "%Y-%m", type = "date"', ".as", "must give a year, a month and a day"),
        ('as = "%Y-%m-%d %Q", type = "date"', ".as", "has %Q, which is no directive"),
        ('as = "%Y-%m-%d %Y", type = "date"', ".as", "says twice"),
        ('as = "%Y-%m-%d %H:%M", type = "timestamp"', ".zone", "is missing; this layout has no offset"),
        ('as = "%Y-%m-%d", zone = "Europe/Berlni", type = "timestamp"', ".zone", "did you mean Europe/Berlin?"),
        ('as = "%Y-%m-%d", zone = "localtime", type = "timestamp"', ".zone", "is no time zone of its own"),
        ('as = "%Y-%m-%d", zone = "../UTC", type = "timestamp"', ".zone", "is no time zone"),
        ('as = "%Y-%m-%d", zone = { from = "z", names = {} }, type = "timestamp"', ".zone.names", "is empty"),
        (
            'as = "%Y-%m-%d", zone = { from = "z", names = { CET = "1" } }, type = "timestamp"',
            ".zone.names.CET",
            "no time",
        ),
        (
            'as = "%Y-%m-%d", zone = { from = "a.z", names = { CET = "+01:00" } }, type = "timestamp"',
            ".zone.from",
            "did you mean /a/z",
        ),
        ("values = []", ".values", "is empty"),
        ("values = {}", ".values", "is empty"),
        ('values = ["x", "x"]', ".values[1]", "stands here twice"),
        ('values = ["x", 1]', ".values[1]", "is no text"),
        ('values = [1, true], type = "integer"', ".values[1]", "is no integer"),
        ('values = { J = "yes" }, type = "boolean"', ".values.J", "is no boolean, true or false"),
        ('values = { a = "1.5" }, type = "integer"', ".values.a", "is no integer"),
        ('values = { a = "b" }, type = "json"', ".values", "does not fit the type json"),
        ('values = { a = "1" }, otherwise = { value = "x" }, type = "integer"', ".otherwise.value", "is no integer"),
        ('type = "date", from = "@file_at", zone = "Berlin"', ".zone", "is no time zone"),
        ('type = "date", from = "@file_at", as = "unix"', ".as", "is a point in time, and no text"),
        ('type = "timestamp", from = "@file_at", zone = "UTC"', ".zone", "a point in time is in no zone"),
        ('type = "timestamp", from = ["@file_at", "/a"], as = "x"', ".as", "must give a year"),
        ('type = "date", as = "unix", zone = { from = "z", names = { A = "UTC" } }', ".zone", "is for timestamp"),
        ('otherwise = "note"', ".otherwise", "needs `values`"),
        ('values = [1], otherwise = { value = "x" }, type = "integer"', ".otherwise", "gives a text"),
        ('min = 3, max = 2.5, type = "decimal"', ".min", "is above max"),
        ("required = true, optional = true", ".optional", "stands beside `required`"),
        ("required = true, skip = true", ".skip", "stands beside `required`"),
        ('required = true, on_error = "null"', ".on_error", "stands beside `required`"),
        ('type = "currency", on_error = "null"', ".on_error", "is not for currency"),
        ('type = "money"', ".currency", "is missing"),
        ('type = "money", currency = "crr"', ".currency", "there is no column of orders: crr; did you mean cur?"),
        ('type = "money", currency = "a"', ".currency", 'a is no column with type = "currency"'),
        ('type = "money", currency = "cur", digits = 19', ".digits", "must be 0 to 18"),
        ('type = "money", currency = "cur", on_error = "null"', ".on_error", "is not for money"),
    ],
)
def test_an_option_that_does_not_fit_is_told(options: str, path: str, detail: str) -> None:
    problems = lint_text(f"{COLUMNS}{CURRENCY}a = {{ {options} }}\n")

    assert_told(problems, COLUMN + path, detail)
    assert problems[0].line == 8


@pytest.mark.parametrize(
    "options",
    [
        'from = "@row", type = "integer"',
        'from = "@file_at", type = "date", zone = "Europe/Berlin"',
        'from = ["/a", "#3", "@type"]',
        'from = { join = ["Date", "Time"], with = " " }, type = "timestamp", as = "%d.%m.%Y %H:%M", zone = "UTC"',
        'value = "19.5", type = "decimal"',
        'value = "EUR", type = "currency", required = true',
        'type = "timestamp", as = "%Y-%m-%dT%H:%M:%S%z"',
        'type = "timestamp", as = "unix_ms"',
        'type = "date", as = "unix", zone = "America/New_York"',
        'type = "boolean", as = "text"',
        'type = "country", case = "upper", trim = true',
        'values = { A = "b" }, otherwise = { value = "c" }',
        'type = "integer", values = [1, 2], otherwise = "note"',
        'type = "decimal", values = [0, "19.5"]',
        'type = "currency", values = ["EUR", "XTS"]',
        'type = "boolean", values = { J = "true", N = "false" }, otherwise = "note"',
        'type = "money", currency = "cur", values = { none = "0" }',
        'type = "money", currency = "cur", units = "minor", exponents = "stripe", digits = 6, as = "text"',
        'type = "decimal", on_error = "null"',
        'type = "decimal", sign = { from = "s", minus = ["S"] }, min = 0, max = 0.5',
    ],
)
def test_an_option_that_fits_is_silent(options: str) -> None:
    assert lint_text(f"{COLUMNS}{CURRENCY}a = {{ {options} }}\n") == ()


@pytest.mark.parametrize(
    ("options", "path", "detail"),
    [
        ('zone = "UTC", type = "timestamp"', ".zone", "has its offset already"),
        ('zone = "UTC", as = "unix", type = "timestamp"', ".zone", "has its offset already"),
        ('zone = "UTC", type = "date"', ".zone", "a day without a time is in no zone"),
        ('type = "money", currency = "cur", exponents = "adyen"', ".exponents", 'it counts where units = "minor"'),
    ],
)
def test_an_option_without_effect_is_a_warning(options: str, path: str, detail: str) -> None:
    assert_told(lint_text(f"{COLUMNS}{CURRENCY}a = {{ {options} }}\n"), COLUMN + path, detail, "warning")


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("_a", "begins with _"),
        ("A", "small letter"),
        ("1a", "small letter"),
        ('"a b"', "small letter"),
        ('"straße"', "small letter"),
        ("a" * 56, "is longer than 55 characters"),
        ("order", "is a word of SQL"),
        ("ctid", "is a column that PostgreSQL adds"),
    ],
)
def test_a_name_that_postgresql_would_not_take_is_told(name: str, detail: str) -> None:
    assert_told(lint_text(f'{COLUMNS}{name} = "/a"\n'), f"table[0].columns.{name}", detail)


def test_a_place_of_an_element_follows_the_table() -> None:
    text = HEAD + '[[table]]\nname = "fees"\nat = "/data/*/fees/*"\n[table.columns]\na = "/data/*/id"\nb = "./amount"\n'

    assert lint_text(text + 'c = { from = "@index", type = "integer" }\nd = "/id"\ne = "/data/*/fees/*/f"\n') == ()
    assert_told(lint_text(text + 'c = "/other/*/id"\n'), "table[0].columns.c.from", "as the table's `at`")
    assert_told(lint_text(text + 'c = "/data/*/fees/*/parts/*"\n'), "table[0].columns.c.from", "up to its last *")
    assert_told(lint_text(text + 'c = "#3"\n'), "table[0].columns.c.from", "a CSV row, which has no elements")


def test_the_columns_of_a_file_may_be_elements() -> None:
    text = HEAD + '[[table]]\nname = "rates"\nat = "/*"\nexcept = ["Date"]\n[table.columns]\nday = "#1"\n'

    assert (
        lint_text(text + 'cur = { from = "@key", type = "currency" }\nrate = { from = "@value", skip = true }\n') == ()
    )


def test_a_column_by_position_does_not_stand_beside_a_place_in_json() -> None:
    problems = lint_text(COLUMNS + 'a = "/data/id"\nb = "#2"\n')

    assert_told(problems, "table[0].columns.b.from", "others of this table read within JSON objects")


@pytest.mark.parametrize("name", ["id", "as_of"])
def test_a_key_or_newest_is_never_left_out(name: str) -> None:
    text = LATEST.replace(f"{name} =", f"x_{name} =") + f'{name} = {{ type = "integer", on_error = "null" }}\n'

    assert_told(lint_text(text), f"table[0].columns.{name}.on_error", "a wrong value there must fail the event")


@pytest.mark.parametrize(
    ("masking", "options", "level", "detail"),
    [
        ("drop", "", "warning", "of which nothing is left"),
        ("drop", ", required = true", "error", "of which nothing is left"),
        ("hmac", ', type = "json"', "warning", "of which nothing is left"),
        ("last4", ', type = "integer"', "error", "of which a text is left"),
    ],
)
def test_a_column_cannot_hold_what_a_mask_leaves(masking: str, options: str, level: str, detail: str) -> None:
    text = f'{HEAD}[mask]\n"/people/*/mail" = "{masking}"\n[[table]]\nname = "t"\nat = "/people/*"\n[table.columns]\n'

    problems = lint_text(f'{text}a = {{ from = ["x", "./mail"]{options} }}\n')

    assert_told(problems, "table[0].columns.a.from[1]", detail, level)


@pytest.mark.parametrize(
    ("mask", "place", "covered"),
    [
        ("/people/*/mail", "/people/0/mail", True),
        ("/people/0/mail", "/people/1/mail", False),
        ("/address", "/address/city", True),
        ("/address/city", "/address", False),
        ("mail", "/mail", True),
        ("/mail", "mail", True),
        ("mail", "#1", False),
    ],
)
def test_a_mask_covers_its_place_and_what_is_below(mask: str, place: str, *, covered: bool) -> None:
    problems = lint_text(f'{HEAD}[mask]\n"{mask}" = "drop"\n[[table]]\nname = "t"\n[table.columns]\na = "{place}"\n')

    assert [each.level for each in problems] == ["warning"] * covered


def test_a_masked_key_may_be_one_of_several_people() -> None:
    text = LATEST.replace("[[table]]", '[mask]\n"/id" = "last4"\n[[table]]')

    assert_told(lint_text(text), "table[0].columns.id.from", "different values become one key", "warning")
    assert lint_text(text.replace("last4", "hmac")) == ()
