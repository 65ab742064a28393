"""What is no TOML is told in the words of who writes pipeline files, with the line."""

import tomllib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pipelines.document.toml_errors import explain_toml_error
from support.pipeline_texts import HEAD, read_text

CASES = [
    ("a = { b = 1,\n      c = 2 }\n", 1, "line break within { }"),
    ("a = { b = 1\n}\n", 1, "line break within { }"),
    ("a = {", 1, "line break within { }"),
    ("a = { b = 1, }\n", 1, "comma before }"),
    ("a = { b = 1, # why\n c = 2 }\n", 1, "comment within { }"),
    ("a = { b = 1,, c = 2 }\n", 1, "two commas"),
    ("a = { b = 1 c = 2 }\n", 1, "lacks its comma"),
    ("a = { /x = 1 }\n", 1, "is put in quotes"),
    ("a = { b = 1, b = 2 }\n", 1, "twice"),
    ('[table.columns]\na = "b"\n[[table]]\nname = "x"\n', 1, "[table.columns] stands above its [[table]]"),
    ('[table]\nname = "x"\n[[table]]\n', 1, "write [[table]], with two brackets, as in line 3"),
    ("[[table]]\n[table]\n", 2, "write [[table]], with two brackets, as in line 1"),
    ("[[table]]\n[table.columns]\na=1\n[table.columns]\nb=1\n", 4, "is a [[table]] missing between them?"),
    ("[event]\nid = '/a'\n\n[event]\n", 4, "[event] stands twice, first in line 1"),
    ("a = { b = 1 }\n[a]\n", 2, "was given already"),
    ("table = 1\n[[table]]\n", 2, "cannot be a header too"),
    ("a = { b = 1 }\na.c = 2\n", 2, "takes nothing more"),
    ("a = 1\n\na = 2\n", 3, "a has a value already, in line 1"),
    ("[t]\nx.y = 1\nx = 2\n", 3, "t.x has a value already, in line 2"),
    ("a = [1,\n 2\nb = 3\n", 1, "its closing ]"),
    ("a = [1,,2]\n", 1, "two commas"),
    ("a = [1]]\n", 1, "one ] too many"),
    ("]\n", 1, "one ] too many"),
    ("a = 1 b = 2\n", 1, "a line of its own"),
    ('a = "it"s"\n', 1, "stands after the value"),
    ("a = 1 // why\n", 1, "a comment begins with #"),
    ("a = \nb = 2\n", 1, "a value is missing"),
    ("a = True\n", 1, "write true"),
    ("a = no\n", 1, "write false"),
    ("a = null\n", 1, "no null"),
    ("a = /data/id\n", 1, "is put in quotes"),
    ("a = “b”\n", 1, "typographic quotes"),
    ('a = "b\n[[table]]\n', 1, "lacks its closing quote"),
    ("\na = 'b\n", 2, "lacks its closing quote"),
    ('a = """b\nc\n', 1, "lacks its closing quotes"),
    ("\na = '''b\nc\n", 2, "lacks its closing quotes"),
    ('a = "b\x01"\n', 1, "control character"),
    ('a = "\\d"\n', 1, "begins an escape"),
    ('a = "\\uZZ"\n', 1, "hexadecimal"),
    ('a = "\\ud800"\n', 1, "names no character"),
    ("a = 2026-02-30\n", 1, "no such date"),
    ("/data/id = 1\n", 1, "is put in quotes"),
    ("a: 1\n", 1, "not `key: value`"),
    ("a b = 1\n", 1, "is put in quotes"),
    ("a\nb = 1\n", 1, "without `= value`"),
    ("[]\n", 1, "the header names nothing"),
    ("[table columns]\n", 1, "must end with ]"),
    ("[[table]\n", 1, "must end with ]]"),
    ("a = 1\rb = 2\n", 1, "a line of its own"),
]


@pytest.mark.parametrize(("text", "line", "detail"), CASES)
def test_a_slip_is_told_with_its_line(text: str, line: int, detail: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as raised:
        tomllib.loads(text)

    told_line, told = explain_toml_error(text, str(raised.value))

    assert line == told_line
    assert detail in told


def test_the_line_counts_from_the_beginning_of_the_file() -> None:
    pipeline, problems = read_text(HEAD + "[money]\nunits = major\n")

    assert pipeline is None
    assert [(each.path, each.line) for each in problems] == [("", 5)]


def test_lines_that_end_as_on_windows_are_counted_once() -> None:
    _, problems = read_text((HEAD + "[money]\nunits = \n").replace("\n", "\r\n"))

    assert [(each.line, each.detail) for each in problems] == [(5, "a value is missing after `=`")]


def test_a_message_that_is_unknown_is_told_as_it_is() -> None:
    assert explain_toml_error("a", "Something new (at line 1, column 1)") == (1, "is no TOML: Something new")
    assert explain_toml_error("a", "Something else") == (None, "is no TOML: Something else")


PIECES = st.sampled_from(
    [*'[]{}=,."\n\\#', "'", '"""', "'''", "\r\n", "a", "b.c", "1", "true", "[[table]]\n", "[table.columns]\n", " = "]
)


@given(st.lists(PIECES, max_size=30).map("".join) | st.text(max_size=40))
def test_every_error_is_told_with_a_line_of_the_text(text: str) -> None:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line, detail = explain_toml_error(text, str(error))

        assert line is not None
        assert 1 <= line <= text.count("\n") + 1
        assert detail


def test_the_cases_differ() -> None:
    assert all(one[0] != other[0] for one, other in pairwise(sorted(CASES)))
