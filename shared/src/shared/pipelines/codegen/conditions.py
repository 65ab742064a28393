"""Code for `when`, `gone` and `types`. Pure."""

from collections.abc import Sequence

from shared.pipelines.codegen.access import Access
from shared.pipelines.codegen.cells import Form
from shared.pipelines.codegen.spots import Spot
from shared.pipelines.codegen.writer import SourceWriter
from shared.pipelines.model import Condition, Present, Scalar


def conditions_hold(
    writer: SourceWriter, access: Access, form: Form, conditions: Sequence[tuple[Spot, Condition]]
) -> str:
    """Return an expression that tells whether all conditions hold; their places were fetched."""
    return " and ".join(f"({_holds(writer, access, form, spot, condition)})" for spot, condition in conditions)


def _holds(writer: SourceWriter, access: Access, form: Form, spot: Spot, condition: Condition) -> str:
    found = access.expression(spot, as_text=form.is_csv, moments=False)
    if isinstance(condition, Present):
        return f"{found} is {'not ' if condition.present else ''}None"
    wanted = condition if isinstance(condition, tuple) else (condition,)
    if form.is_csv:
        return f"{found} in {writer.constant(frozenset(_as_text(scalar) for scalar in wanted))}"
    texts = frozenset(scalar for scalar in wanted if isinstance(scalar, str))
    numbers = frozenset(scalar for scalar in wanted if type(scalar) is int)
    alternatives = [f"{found} is {flag}" for flag in (True, False) if any(scalar is flag for scalar in wanted)]
    alternatives += [f"(type({found}) is str and {found} in {writer.constant(texts)})"] if texts else []
    alternatives += [f"(type({found}) is int and {found} in {writer.constant(numbers)})"] if numbers else []
    return " or ".join(alternatives) or "False"


def _as_text(scalar: Scalar) -> str:
    return str(scalar).lower() if isinstance(scalar, bool) else str(scalar)


def split_types(types: Sequence[str]) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the names of types, and the beginnings of those that end in `*`."""
    exact = frozenset(name for name in types if not name.endswith("*"))
    return exact, tuple(name.removesuffix("*") for name in types if name.endswith("*"))


def is_of(name: str, types: Sequence[str]) -> bool:
    """Tell whether a type is one of those that a table takes; without any it takes all."""
    exact, beginnings = split_types(types)
    return not types or name in exact or name.startswith(beginnings)
