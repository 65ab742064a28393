"""The line of each key is found, however the document is written."""

import tomllib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pipelines.document.lines import key_lines, line_of
from shared.pipelines.document.problems import Steps, path_text

TEXT = '''\
etlpay = 1 # a = 2
name = "a # b = 'c'"

[mask]
"/data/email" = "hmac"

[[table]]
name = "x"   # [[table]]
types = [
    "a",
    # "b",
    "c", ]
about = """
name = "no"
[no]
"""
[table.columns]
id = { from = "/id", zone = { from = "z", names = { CET = "+01:00" } } }
amount.type = "money"
'quoted key' = "x"

[[table]]
name = "y"
[table.columns.id]
from = "/id"
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("etlpay",), 1),
        (("name",), 2),
        (("mask",), 4),
        (("mask", "/data/email"), 5),
        (("table", 0), 7),
        (("table", 0, "name"), 8),
        (("table", 0, "types", 1), 12),
        (("table", 0, "about"), 13),
        (("table", 0, "columns"), 17),
        (("table", 0, "columns", "id", "zone", "names", "CET"), 18),
        (("table", 0, "columns", "amount", "type"), 19),
        (("table", 0, "columns", "quoted key"), 20),
        (("table", 1), 22),
        (("table", 1, "columns", "id", "from"), 25),
        (("table", 1, "columns", "id", "zone", "from"), 24),
        (("table", 7), 7),
        (("no",), None),
    ],
)
def test_a_key_has_the_line_in_which_it_stands(path: Steps, line: int | None) -> None:
    assert line == line_of(key_lines(TEXT), path)


def test_lines_are_those_of_a_file_from_windows_too() -> None:
    assert key_lines(TEXT) == key_lines(TEXT.replace("\n", "\r\n"))


def test_keys_before_a_slip_have_their_lines() -> None:
    assert key_lines("a = 1\nb = ]\nc = 1\n") == {("a",): 1, ("b",): 2}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("table", 0, "columns", "amount", "currency"), "table[0].columns.amount.currency"),
        (("mask", "/data/e.mail"), 'mask."/data/e.mail"'),
        (("index", 0, 1), "index[0][1]"),
        (("äöü",), '"äöü"'),
        ((), ""),
    ],
)
def test_a_key_path_is_written_as_toml_would(path: Steps, text: str) -> None:
    assert text == path_text(path)


PIECES = st.sampled_from(
    [
        *("a = 1\n", "b.c = 2\n", '"d e" = "f # g"\n', "[t]\n", "[t.u]\n", "[[v]]\n", "[v.w]\n", "[[v.x]]\n", "# h\n"),
        *("i = [1, [2, 3], { j = 4 }]\n", "k = { l = 1, m = { n.o = [1] } }\n", "p = '''\nq = 1\n'''\n", "r = 1.5\n"),
        *('s = """\n\\"""a""""\n', "t = 2026-01-01 10:00:00\n", "u = [\n  1, # v\n\n  2,\n]\n", "\n", "w = ''\n"),
    ]
)


def paths_of(value: object, steps: Steps = ()) -> Iterator[Steps]:
    """Yield every key path of a document."""
    if steps:
        yield steps
    if isinstance(value, dict):
        for key, each in value.items():
            yield from paths_of(each, (*steps, key))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from paths_of(each, (*steps, number))


@given(st.lists(PIECES, max_size=12).map("".join))
def test_whatever_toml_reads_has_lines(text: str) -> None:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        key_lines(text)
        return

    assert set(paths_of(document)) == set(key_lines(text))


@given(st.text(max_size=60))
def test_no_text_stops_the_search_for_lines(text: str) -> None:
    assert all(1 <= line <= text.count("\n") + 1 for line in key_lines(text).values())
