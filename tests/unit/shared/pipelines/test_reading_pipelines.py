"""A pipeline file is read whole, or all of its problems are told with key path, line and what was meant."""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pipelines.document.reading import read_pipeline
from shared.pipelines.document.slips import expand_columns, move_misplaced_keys
from shared.pipelines.document.types import differences
from shared.pipelines.document.words import Included
from shared.pipelines.model import Alternative, Column, FileCheck, Moment, Pipeline, Table, Total
from support.pipeline_texts import COLUMNS, FILE, HEAD, TABLE, assert_told, pipeline_of, read_text, reader


def test_a_column_may_be_just_its_place() -> None:
    pipeline = pipeline_of(COLUMNS + 'id = "/data/id"\namount = { type = "decimal", min = 0.10 }\n')

    columns = pipeline.table[0].columns
    assert columns == {"id": Column(from_="/data/id"), "amount": Column(type="decimal", min=Decimal("0.10"))}


def test_every_form_of_a_place_is_read() -> None:
    text = '[event]\noccurred_at = { from = "/created", as = "unix" }\n[[table]]\nname = "a"\n[table.columns]\n'
    text += 'b = { from = ["/x", { from = "/y", negate = true }] }\nc = { from = { join = ["d", "e"], with = " " } }\n'

    pipeline = pipeline_of(HEAD + text)

    assert pipeline.event.occurred_at == Moment("/created", "unix")
    assert pipeline.table[0].columns["b"].from_ == ("/x", Alternative("/y", negate=True))


@pytest.mark.parametrize(
    ("text", "path", "detail"),
    [
        ('name = "a"\nsource = "b"\n', "etlpay", "begins with etlpay = 1"),
        ('etlpay = 2\nname = "a"\nsource = "b"\n', "etlpay", "write etlpay = 1"),
        ('etlpay = true\nname = "a"\nsource = "b"\n', "etlpay", "write etlpay = 1"),
        ('etlpay = 1\nsource = "b"\n', "name", "is missing"),
        ('etlpay = 1\nname = "a"\nsource = 7\n', "source", "must be a text or a list [ … ], not a whole number"),
        (HEAD + 'abuot = "x"\n', "abuot", "did you mean about?"),
        (HEAD + "zzz = 1\n", "zzz", "there are about, contract, csv"),
        (HEAD + "[columns]\n", "columns", "write [table.columns], below its [[table]]"),
        (HEAD + "[[test]]\n", "test", "write tests into a file beside this one"),
        (HEAD + "[[check]]\n", "check", "write [[file_check]]"),
        (HEAD + "[table]\n", "table", "write [[table]], with two brackets"),
        (HEAD + "[[event]]\n", "event", "write [event], with one bracket"),
        (HEAD + '[[table]]\nname = "a"\n[[table.columns]]\n', "table[0].columns", "write [table.columns]"),
        (HEAD + '[money]\nabout = "x"\n', "money.about", "write it above the first header"),
        (HEAD + '[money]\nunits = "miner"\n', "money.units", "did you mean minor?"),
        (HEAD + "[money]\nunits = 1\n", "money.units", "must be one of major, minor, not a whole number"),
        (HEAD + '[event]\nid = { join = "a" }\n', "event.id.join", "must be a list [ … ], not a text"),
        (HEAD + '[mask]\n"/a" = "hash"\n', 'mask."/a"', "is none of domain, drop, hmac, last4"),
        (TABLE + 'version = "a"\n', "table[0].version", "write newest"),
        (TABLE + 'for_each = "/a"\n', "table[0].for_each", "write at"),
        (TABLE + 'mode = "replace"\n', "table[0].mode", "is not built yet; use latest with the file's day in the key"),
        (TABLE + 'mode = "latets"\n', "table[0].mode", "did you mean latest?"),
        (TABLE + "types = [1]\n", "table[0].types[0]", "must be a text, not a whole number"),
        (TABLE + 'check = [{ level = "note" }]\n', "table[0].check[0].must", "is missing"),
        (TABLE + 'when = { "/a" = 1.5 }\n', 'table[0].when."/a"', "not a decimal number"),
        (TABLE + 'when = { "/a" = { presnt = true } }\n', 'table[0].when."/a".presnt', "did you mean present?"),
        (COLUMNS + 'a = { path = "/a" }\n', "table[0].columns.a.path", "write from"),
        (COLUMNS + 'a = { type = "amount" }\n', "table[0].columns.a.type", "is none of boolean, country"),
        (COLUMNS + "a = { required = 1 }\n", "table[0].columns.a.required", "must be true or false"),
        (COLUMNS + "a = { min = nan }\n", "table[0].columns.a.min", "must be a whole number or a decimal number"),
        (COLUMNS + "a = { from = 2026-01-01 }\n", "table[0].columns.a.from", "not a date without quotes"),
        (COLUMNS + "a = { from = 10:00:00 }\n", "table[0].columns.a.from", "not a time without quotes"),
        (COLUMNS + "[table.columns.a]\nkey = ['a']\n", "table[0].columns.a.key", "write it above [table.columns]"),
        (HEAD + '[[total]]\nname = "a"\n', "total[0].of", "is missing"),
        (HEAD + '[[file_check]]\nunique = "a"\n', "file_check[0].unique", "must be a list"),
        (HEAD + '[[file_check]]\nshare = "1"\n', "file_check[0].share", "must be"),
    ],
)
def test_a_wrong_key_or_type_is_told_where_it_stands(text: str, path: str, detail: str) -> None:
    pipeline, problems = read_text(text)

    assert pipeline is None
    assert_told([each for each in problems if each.path != "table[0].name"], path, detail)


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ('index = [["id"]]', "index"),
        ('key = ["id"]', "key"),
        ('types = ["a.*"]', "types"),
        ('check = ["id >= 0"]', "check"),
        ('mode = "latest"', "mode"),
        ('newest = "id"', "newest"),
        ('rank = "id"', "rank"),
        ('at = "/lines/*"', "at"),
        ('when = { "/type" = "a" }', "when"),
        ('gone = { "/deleted" = true }', "gone"),
        ('of = { table = "a", on = ["id"] }', "of"),
    ],
)
def test_a_key_of_the_table_below_its_columns_is_told(line: str, path: str) -> None:
    _, problems = read_text(f'{COLUMNS}id = "/id"\n{line}\n')

    assert_told(problems, f"table[0].columns.{path}", "stands below [table.columns], so it became a column")
    assert problems[0].line == 8


def test_the_name_of_a_table_below_its_columns_is_told() -> None:
    _, problems = read_text(HEAD + '[[table]]\n[table.columns]\nid = "/id"\nname = "orders"\n')

    assert_told(problems, "table[0].columns.name", "write it above")


@pytest.mark.parametrize("name", ["name", "about", "mode", "key", "at", "newest", "rank", "index", "when"])
def test_a_column_may_have_the_name_of_a_key(name: str) -> None:
    pipeline = pipeline_of(f'{COLUMNS}{name} = {{ from = "/data/{name}" }}\nid = "/id"\n')

    assert pipeline.table[0].columns[name] == Column(from_=f"/data/{name}")


def test_a_column_may_have_the_name_of_a_key_that_the_table_has() -> None:
    pipeline = pipeline_of(TABLE + 'mode = "append"\n[table.columns]\nmode = "latest"\n')

    assert pipeline.table[0].columns["mode"] == Column(from_="latest")


def test_every_problem_is_told_at_once_with_its_line() -> None:
    text = HEAD + '[money]\nunits = "x"\n\n[[table]]\nmode = 1\n[table.columns]\na = { tpye = "text", min = "1" }\n'

    _, problems = read_text(text)

    assert [(each.path, each.line) for each in problems] == [
        ("money.units", 5),
        ("table[0].mode", 8),
        ("table[0].columns.a.tpye", 10),
        ("table[0].columns.a.min", 10),
        ("table[0].name", 7),
    ]


INCLUDE = HEAD + 'include = ["shop/a.toml", "shop/b.toml"]\n[[table]]\nname = "own"\n[table.columns]\na = "/a"\n'
PART = '[[table]]\nname = "part"\n[table.columns]\na = "/a"\n'


def test_parts_of_included_files_follow_in_order() -> None:
    other = '[[total]]\nname = "t"\nof = "own"\n[[file_check]]\nrows = { min = 1 }\n[[join]]\nname = "j"\nof = []\n'

    pipeline = pipeline_of(INCLUDE, {"shop/a.toml": PART, "shop/b.toml": other})

    assert [table.name for table in pipeline.table] == ["own", "part"]
    assert [pipeline.total[0].name, pipeline.join[0].name, len(pipeline.file_check)] == ["t", "j", 1]


@pytest.mark.parametrize(
    ("files", "file", "path", "detail"),
    [
        ({"shop/b.toml": PART}, FILE, "include[0]", "is not there"),
        ({"shop/a.toml": "a = ", "shop/b.toml": PART}, "shop/a.toml", "", "a value is missing"),
        ({"shop/a.toml": PART + "x = 1\n", "shop/b.toml": PART}, "shop/a.toml", "table[0].columns.x", "not a whole"),
        ({"shop/a.toml": "[event]\n", "shop/b.toml": PART}, "shop/a.toml", "event", "holds [[table]], [[join]]"),
        ({"shop/a.toml": "include = []\n", "shop/b.toml": PART}, "shop/a.toml", "include", "is no key of"),
    ],
)
def test_a_problem_of_an_included_file_names_it(files: dict[str, str], file: str, path: str, detail: str) -> None:
    pipeline, problems = read_text(INCLUDE, files)

    assert pipeline is None
    assert_told(problems, path, detail)
    assert problems[0].file == file


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("../secret.toml", "leaves the folder"),
        ("a/../../b.toml", "leaves the folder"),
        ("a\\..\\b.toml", "leaves the folder"),
        ("/etc/passwd", "is an absolute path"),
        ("C:/a.toml", "is an absolute path"),
        ("~/a.toml", "is an absolute path"),
        ("\\\\host\\a", "is an absolute path"),
        ("./a.toml", "is no name of a file here"),
        (".hidden", "is no name of a file here"),
        ("a//b", "is no name of a file here"),
        ("a/", "is no name of a file here"),
        ("a\x00.toml", "is no name of a file here"),
        ("a\n", "is no name of a file here"),
        ("a.", "is no name of a file here"),
        ("", "is empty"),
        ("a" * 201, "is longer than"),
        (FILE, "is this file itself"),
    ],
)
def test_a_file_elsewhere_is_refused_by_its_name_and_never_read(name: str, detail: str) -> None:
    asked: list[str] = []
    text = HEAD + f"include = [{name!a}]\n".replace("'", '"').replace("\\x00", "\\u0000")

    def read(each: str) -> bytes | None:
        asked.append(each)
        return reader(text)(each)

    _, problems = read_pipeline(FILE, read)

    assert_told(problems, "include[0]", detail)
    assert set(asked) == {FILE}


@pytest.mark.parametrize(
    ("content", "line", "detail"),
    [
        (b"\xef\xbb\xbfetlpay = 1", 1, "byte order mark"),
        (b"etlpay = 1\nname = '\xff'", 2, "is no UTF-8"),
        (b"#" * (1 << 20) + b"#", None, "larger than 1 MiB"),
        (b"a = " + b"[" * 5000, None, "too deep"),
        (b"a = " + b"9" * 5000, None, "too long"),
        (b"a = 1e99999999999999999999", None, "too long"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(content: bytes, line: int | None, detail: str) -> None:
    pipeline, problems = read_pipeline(FILE, lambda _: content)

    assert pipeline is None
    assert_told(problems, "", detail)
    assert problems[0].line == line


def test_a_file_that_is_not_there_is_told() -> None:
    _, problems = read_pipeline(FILE, lambda _: None)

    assert_told(problems, "", "there is no such file")


def test_a_history_has_the_columns_and_events_of_the_latest_state() -> None:
    text = HEAD + '[[table]]\nname = "a"\nmode = "latest"\nkey = ["id"]\nnewest = "n"\ntypes = ["t"]\nat = "/x/*"\n'
    text += 'gone = { "/deleted" = true }\n[table.columns]\nid = { required = true }\nn = { type = "integer" }\n'
    text += 's = { required = true }\n[[table]]\nname = "h"\nlike = "a"\n[table.columns]\nmore = "/m"\n'

    history = pipeline_of(text).table[1]

    assert (history.types, history.at, history.mode, history.gone) == (("t",), "/x/*", "append", {})
    assert [(name, column.required) for name, column in history.columns.items()] == [
        ("id", True),
        ("n", False),
        ("s", False),
        ("more", False),
    ]


@given(st.binary(max_size=200) | st.text(max_size=80).map(lambda text: (HEAD + text).encode()))
def test_no_bytes_stop_the_reader(content: bytes) -> None:
    pipeline, problems = read_pipeline(FILE, lambda _: content)

    assert (pipeline is None) == bool(problems)


STRUCTS: tuple[type[msgspec.Struct], ...] = (Pipeline, Table, Column, FileCheck, Total)
WORDS = [name for struct in STRUCTS for name in struct.__struct_encode_fields__]
KEYS = st.sampled_from([*WORDS, "must", "/a", "join", "list"])
LEAVES = (
    st.sampled_from(["latest", "text", "money", "note", "/a", "@row", "", "*"])
    | st.integers()
    | st.booleans()
    | st.decimals(allow_nan=True)
    | st.sampled_from([date(2026, 1, 1), time(1), datetime(2026, 1, 1, tzinfo=UTC)])
)
VALUES = st.recursive(LEAVES, lambda each: st.lists(each, max_size=3) | st.dictionaries(KEYS, each, max_size=4))
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=6)


@given(DOCUMENTS, st.sampled_from([Pipeline, Included]))
def test_no_document_stops_the_comparison(document: dict[str, Any], expected: type) -> None:
    for each in move_misplaced_keys(document):
        assert each.detail
    expand_columns(document)
    for steps, detail in differences(document, expected):
        assert steps
        assert detail
