"""Editors complete and check pipeline files by a schema that takes what the reader takes."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from shared.pipelines.document.schema_file import make_schema, schema_text
from support.pipeline_texts import COLUMNS, HEAD, TABLE, read_text

EXAMPLES = Path(__file__).resolve().parents[4] / "pipelines" / "examples"
EXAMPLE_FILES = sorted(each.name for each in EXAMPLES.glob("*.toml") if not each.name.endswith(".test.toml"))
VALIDATOR = jsonschema_rs.validator_for(make_schema())


def is_valid(document: dict[str, Any]) -> bool:
    """Tell whether an editor would take a document."""
    return bool(VALIDATOR.is_valid(document))


def test_it_is_a_schema_of_the_draft_that_it_names() -> None:
    assert jsonschema_rs.meta.is_valid(make_schema())
    assert make_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("name", EXAMPLE_FILES)
def test_an_example_is_valid(name: str) -> None:
    assert is_valid(tomllib.loads((EXAMPLES / name).read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (HEAD, True),
        (HEAD.replace("etlpay = 1\n", ""), False),
        (HEAD.replace("etlpay = 1", "etlpay = 2"), False),
        (HEAD + "abuot = 'x'\n", False),
        (HEAD + "[money]\nunits = 'miner'\n", False),
        (TABLE, True),
        (TABLE + "mode = 'replace'\n", False),
        (TABLE + "index = ['a']\n", False),
        (COLUMNS + "a = '/a'\nb = {}\n", True),
        (COLUMNS + "a = 1\n", False),
        (COLUMNS + "a = { min = 0.5, max = 2 }\n", True),
        (COLUMNS + "a = { min = '0.5' }\n", False),
        (COLUMNS + "a = { from = ['/a', { from = '/b', negate = true }] }\n", True),
        (COLUMNS + "a = { values = { a = 'b' }, otherwise = { value = 'c' } }\n", True),
        (HEAD + "[[file_check]]\nfilled = 'a'\nshare = 0.9\n", True),
    ],
)
def test_editors_and_the_reader_agree(text: str, *, valid: bool) -> None:
    assert is_valid(tomllib.loads(text)) == valid
    assert (read_text(text)[0] is not None) == valid


def parts_of(part: object) -> Iterator[dict[str, Any]]:
    """Yield every object of a schema."""
    if isinstance(part, dict):
        yield part
    for each in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from parts_of(each)


def test_it_has_neither_null_nor_decimals_as_texts_since_toml_has_none() -> None:
    parts = list(parts_of(make_schema()))

    assert not any("null" in (part.get("type"), part.get("format")) for part in parts)
    assert not any(part.get("format") == "decimal" or part.get("default", "") is None for part in parts)


def test_each_part_says_what_it_is() -> None:
    schema = make_schema()

    assert [name for name, part in schema["$defs"].items() if "description" not in part] == []
    keys = {f"{name}.{key}": each for name, part in schema["$defs"].items() for key, each in part["properties"].items()}
    assert [key for key, each in (keys | schema["properties"]).items() if "description" not in each] == []
    assert schema["title"] == "A pipeline file of EtlPay"
    assert schema["properties"]["table"]["items"] == {"$ref": "#/$defs/Table"}


def test_the_text_is_always_the_same_and_ends_in_a_line_end() -> None:
    assert schema_text() == schema_text()
    assert schema_text().endswith(b"}\n")
