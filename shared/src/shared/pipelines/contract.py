"""A JSON Schema that the whole payload must satisfy, checked without ever telling a value. Pure.

The regular expressions of the schema take linear time, and nothing is fetched: a `$ref` must stay within the file.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from shared.pipelines.codegen.faults import CAUSE_CHARS_MAX
from shared.pipelines.places import pointer_of
from shared.pipelines.program import RowProblem
from shared.pipelines.schema_work import SchemaWorkError, check_work

ERRORS_MAX: Final = 20
"""Breaches of a schema that are told of one event."""

SchemaCheck = Callable[[object], list[RowProblem]]


class SchemaError(ValueError):
    """A schema cannot be used; the message says why."""


def compile_schema(pipeline: str, content: bytes) -> SchemaCheck:
    """Return what checks payloads against a JSON Schema of draft 2020-12. Raises SchemaError.

    It needs the distribution `jsonschema-rs`, which the extra `schema` of this one installs.
    """
    try:
        import jsonschema_rs  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise SchemaError("needs the distribution jsonschema-rs") from error
    try:
        schema = msgspec.json.decode(content)
        check_work(schema)
        validator = jsonschema_rs.Draft202012Validator(
            schema,
            mask="the value",
            pattern_options=jsonschema_rs.RegexOptions(),
            offline=True,
        )
    except SchemaWorkError as error:
        raise SchemaError(str(error)) from error
    except Exception as error:
        # The library raises ValidationError, ValueError and errors of its own for what a schema can have wrong.
        raise SchemaError(f"is no JSON Schema that can be used: {str(error)[:200]}") from error
    return lambda payload: _problems(pipeline, validator, payload)


def _problems(pipeline: str, validator: Any, payload: object) -> list[RowProblem]:  # noqa: ANN401 - has no stubs here
    if validator.is_valid(payload):
        return []
    problems = []
    for error in validator.iter_errors(payload):
        keyword = error.kind.name
        code = f"schema.{keyword}"
        pointer = pointer_of(*error.instance_path)
        # Steps of the schema, not of the payload: there are no more of them than the schema has.
        cause = f"{pipeline}:{code} {pointer_of(*error.schema_path[:-1])}".rstrip()[:CAUSE_CHARS_MAX]
        problems.append(RowProblem(pointer.replace("\x00", "\ufffd")[:500], code, f"does not satisfy {keyword}", cause))
        if len(problems) == ERRORS_MAX:
            break
    return problems
