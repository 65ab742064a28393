"""The JSON Schema of the pipeline file, by which editors complete and check it. Made of the model. Pure."""

from typing import Any, Final

import msgspec

from shared.pipelines.document.meanings import MEANINGS
from shared.pipelines.model import Column, Pipeline

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_NULL: Final = {"type": "null"}
_REFERENCE: Final = "#/$defs/{name}"


def schema_text() -> bytes:
    """Return the JSON Schema (draft 2020-12) of a pipeline file as indented JSON that ends in a line feed."""
    return msgspec.json.format(msgspec.json.encode(make_schema(), order="deterministic"), indent=2) + b"\n"


def make_schema() -> dict[str, Any]:
    """Return the JSON Schema of a pipeline file."""
    _, components = msgspec.json.schema_components((Pipeline,), ref_template=_REFERENCE)
    plain = {name: _as_toml(part) for name, part in components.items()}
    for struct, meanings in MEANINGS.items():
        properties = plain[struct.__name__]["properties"]
        properties |= {key: {**properties[key], "description": text} for key, text in meanings.items()}
    columns = plain["Table"]["properties"]["columns"]
    columns["additionalProperties"] = {
        "anyOf": [{"type": "string", "description": "The place of the value."}, _reference(Column)],
    }
    root = plain.pop(Pipeline.__name__)
    return {**root, "$schema": _DRAFT, "title": "A pipeline file of EtlPay", "$defs": plain}


def _reference(struct: type) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(name=struct.__name__)}


def _as_toml(part: Any) -> Any:  # noqa: ANN401 - a JSON value
    """Return a schema without what TOML does not have: null, and decimals that are texts."""
    if isinstance(part, list):
        return [_as_toml(each) for each in part]
    if not isinstance(part, dict):
        return " ".join(part.split()) if isinstance(part, str) else part
    if part.get("format") == "decimal":
        return {"type": "number"}
    kept = {key: _as_toml(each) for key, each in part.items() if key != "default" or each is not None}
    choices = [each for each in kept.pop("anyOf", ()) if each != _NULL]
    if len(choices) == 1:
        return {**choices[0], **kept}
    return {"anyOf": choices, **kept} if choices else kept
