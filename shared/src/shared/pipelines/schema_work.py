"""How often a JSON Schema of draft 2020-12 looks at one place of a payload. Pure.

A schema of a few hundred bytes can ask for more work than a computer does in a year: definitions that each name the
next one twice, or one that names itself twice. Both are found here without a payload.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import msgspec

LOOKS_MAX: Final = 10_000
"""Ways through a schema to one place of a payload, each `$ref` followed."""

_ONE: Final = frozenset(
    {"additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then"}
    | {"unevaluatedItems", "unevaluatedProperties"}
)
_LISTED: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED: Final = frozenset({"dependentSchemas", "patternProperties", "properties"})
_REFERENCES: Final = ("$ref", "$dynamicRef")
_ANCHORS: Final = ("$anchor", "$dynamicAnchor")

Path = tuple[str, ...]
"""The steps of the pointer to a subschema."""


class SchemaWorkError(ValueError):
    """A schema asks for too much work, or it cannot be told; the message says why."""


class _Edge(msgspec.Struct, frozen=True):
    """A subschema that a schema applies: to a member of its own name, or where `member` is None to any place."""

    to: Path
    member: str | None = None


def check_work(schema: object) -> None:
    """Raise SchemaWorkError where a schema may look at one place of a payload more often than LOOKS_MAX times.

    It may apply itself within a payload, once at each place: a tree is fine.
    """
    edges = _edges_of(schema)
    component = _components(edges)
    looks: dict[Path, int] = {}
    for path in sorted(edges, key=component.__getitem__):
        others, itself = Counter[str | None](), Counter[str | None]()
        for edge in edges[path]:
            if component[edge.to] == component[path]:
                itself[edge.member] += 1
            else:
                others[edge.member] += looks[edge.to]
        looks[path] = 1 + _at_one_place(others)
        if looks[path] > LOOKS_MAX:
            raise SchemaWorkError(f"names its parts so often that there are more than {LOOKS_MAX} ways to one place")
        if _at_one_place(itself) > 1:
            raise SchemaWorkError("applies itself more than once at one place, so that each level doubles the work")


def _at_one_place(counted: Counter[str | None]) -> int:
    """Return how much of what is counted by member can meet at one place."""
    return counted.pop(None, 0) + max(counted.values(), default=0)


def _edges_of(schema: object) -> dict[Path, list[_Edge]]:
    """Return what each subschema that can be reached applies."""
    anchors = dict(_anchors_in(schema))
    edges: dict[Path, list[_Edge]] = {}
    left: list[Path] = [()]
    while left:
        path = left.pop()
        if path in edges:
            continue
        node = _value_at(schema, path)
        edges[path] = []
        if isinstance(node, dict):
            edges[path] += _applied(path, node)
            edges[path] += (_Edge(_target(node[key], schema, anchors)) for key in _REFERENCES if key in node)
        left += (edge.to for edge in edges[path])
    return edges


def _applied(path: Path, node: dict[str, Any]) -> Iterator[_Edge]:
    for keyword, value in node.items():
        if keyword in _ONE:
            yield _Edge((*path, keyword))
        elif keyword in _LISTED and isinstance(value, list):
            yield from (_Edge((*path, keyword, str(number))) for number in range(len(value)))
        elif keyword in _NAMED and isinstance(value, dict):
            yield from (_Edge((*path, keyword, name), name if keyword == "properties" else None) for name in value)


def _anchors_in(schema: object) -> Iterator[tuple[str, Path]]:
    left: list[tuple[Path, object]] = [((), schema)]
    while left:
        path, value = left.pop()
        if isinstance(value, dict):
            yield from ((value[key], path) for key in _ANCHORS if isinstance(value.get(key), str))
            left += (((*path, name), each) for name, each in value.items())
        elif isinstance(value, list):
            left += (((*path, str(number)), each) for number, each in enumerate(value))


def _target(reference: object, schema: object, anchors: dict[str, Path]) -> Path:
    """Return where the schema stands that a reference names. Raises SchemaWorkError where this file has none."""
    if isinstance(reference, str) and reference.startswith("#"):
        first, *steps = reference[1:].split("/")
        path = tuple([step.replace("~1", "/").replace("~0", "~") for step in steps])
        if first in anchors and not steps:
            return anchors[first]
        if not first and _value_at(schema, path) is not None:
            return path
    raise SchemaWorkError("has a reference that is neither # nor # and a JSON Pointer nor an anchor of this file")


def _value_at(value: Any, path: Path) -> Any:  # noqa: ANN401 - any JSON
    for step in path:
        if isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def _components(edges: dict[Path, list[_Edge]]) -> dict[Path, int]:
    """Return the strongly connected component of each node (Tarjan), those that others lead to first."""
    index: dict[Path, int] = {}
    low: dict[Path, int] = {}
    found: dict[Path, int] = {}
    stack: list[Path] = []
    calls: list[tuple[Path, Iterator[_Edge]]] = []

    def enter(node: Path) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        calls.append((node, iter(edges[node])))

    enter(())
    while calls:
        node, rest = calls[-1]
        edge = next(rest, None)
        if edge is None:
            calls.pop()
            if calls:
                low[calls[-1][0]] = min(low[calls[-1][0]], low[node])
            if low[node] == index[node]:
                number, member = len(found), None
                while member != node:
                    member = stack.pop()
                    found[member] = number
        elif edge.to not in index:
            enter(edge.to)
        elif edge.to not in found:
            low[node] = min(low[node], index[edge.to])
    return found
