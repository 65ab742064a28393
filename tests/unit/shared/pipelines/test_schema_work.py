"""A JSON Schema that would keep a processor busy for ever is refused before it meets an event."""

from functools import reduce
from typing import Any

import msgspec
import pytest

from shared.pipelines.contract import SchemaError, compile_schema
from shared.pipelines.schema_work import LOOKS_MAX, SchemaWorkError, check_work

ITSELF = {"$ref": "#"}


def doubled(levels: int, keyword: str = "anyOf") -> dict[str, Any]:
    """Return a schema whose definitions each name the next one twice."""
    parts = {f"d{level}": {keyword: [{"$ref": f"#/$defs/d{level + 1}"}] * 2} for level in range(levels)}
    return {"$ref": "#/$defs/d0", "$defs": parts | {f"d{levels}": {"type": "null"}}}


@pytest.mark.parametrize("keyword", ["anyOf", "allOf", "oneOf"])
def test_definitions_that_double_the_work_are_refused(keyword: str) -> None:
    check_work(doubled(10, keyword))

    with pytest.raises(SchemaWorkError, match="more than 10000 ways"):
        check_work(doubled(40, keyword))
    with pytest.raises(SchemaError, match="more than 10000 ways"):
        compile_schema("shop", msgspec.json.encode(doubled(40, keyword)))


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"c": {"anyOf": [ITSELF, ITSELF]}}},
        {"items": ITSELF, "contains": ITSELF},
        {"properties": {"c": ITSELF}, "patternProperties": {"^c": ITSELF}},
        {"properties": {"c": ITSELF}, "additionalProperties": ITSELF},
        {"allOf": [{"properties": {"c": ITSELF}}, {"properties": {"c": ITSELF}}]},
        {"$ref": "#a", "$defs": {"x": {"$anchor": "a", "if": {"$ref": "#a"}, "then": {"$ref": "#a"}}}},
        {"$dynamicRef": "#a", "$defs": {"x": {"$dynamicAnchor": "a", "prefixItems": [{"$dynamicRef": "#a"}] * 2}}},
    ],
)
def test_a_schema_that_applies_itself_twice_at_one_place_is_refused(schema: object) -> None:
    with pytest.raises(SchemaWorkError, match="applies itself more than once"):
        check_work(schema)


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {"properties": {"left": ITSELF, "right": ITSELF}},
        {"properties": {"next": {"anyOf": [ITSELF, {"type": "null"}]}, "all": {"type": "array", "items": ITSELF}}},
        {"allOf": [ITSELF]},
        {
            "$ref": "#/components/a~1b",
            "components": {"a/b": {"properties": {"x": {"$ref": "#/components/c"}}}, "c": {}},
        },
        {"properties": {f"p{number}": {"type": "string"} for number in range(LOOKS_MAX + 1)}},
        reduce(lambda inner, _: {"properties": {"a": inner}}, range(300), dict[str, Any]()),
    ],
)
def test_a_schema_that_looks_at_each_place_a_few_times_is_taken(schema: object) -> None:
    check_work(schema)


@pytest.mark.parametrize(
    "reference", ["other.json", "https://example.com/a", "#b", "#/$defs/none", "#/properties/x/1", 1, "#/$defs/a/"]
)
def test_a_reference_to_nothing_here_is_refused(reference: object) -> None:
    with pytest.raises(SchemaWorkError, match="has a reference"):
        check_work({"properties": {"x": {"$ref": reference}}, "$defs": {"a": {"$anchor": "a"}}})
