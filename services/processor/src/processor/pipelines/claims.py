"""Sources and names that two pipelines claim: a source belongs to one of them, and so does a table or view. Pure."""

from collections.abc import Iterable

import msgspec

from shared.pipelines.ddl.views import view_names
from shared.pipelines.model import Pipeline


class Claims(msgspec.Struct, frozen=True):
    """What a pipeline claims: sources, or beginnings of them that end in `*`, and names in schema `data`."""

    sources: frozenset[str]
    names: frozenset[str]


def claims_of(pipeline: Pipeline) -> Claims:
    """Return the claims of a pipeline."""
    return Claims(frozenset(pipeline.sources), frozenset(view_names(pipeline)))


def claim_problems(wanted: dict[str, Claims], held: dict[str, Claims]) -> dict[str, list[str]]:
    """Return by name why a pipeline cannot have what it wants. Who holds something already, keeps it.

    `held` is what pipelines of the ledger have: those in `wanted`, and others. Of two that are equally specific no
    source of an event could be told; a longer beginning of a source belongs to another pipeline without a problem.
    """
    problems: dict[str, list[str]] = {}
    for name, claims in sorted(wanted.items()):
        for kind in ("sources", "names"):
            for each in sorted(getattr(claims, kind)):
                rivals = _rivals(name, each, kind, wanted, held)
                if rivals and each not in getattr(held.get(name, _NOTHING), kind):
                    what = f"source {each}" if kind == "sources" else f"table or view {each}"
                    problems.setdefault(name, []).append(f"the {what} belongs to the pipeline {', '.join(rivals)} too")
    return problems


_NOTHING = Claims(frozenset(), frozenset())


def _rivals(name: str, each: str, kind: str, wanted: dict[str, Claims], held: dict[str, Claims]) -> Iterable[str]:
    both = {other for claims in (wanted, held) for other in claims if each in getattr(claims[other], kind)}
    # A pipeline that gives a source up in the same plan is no rival; rows stay where they are, so a name is kept.
    if kind == "sources":
        both = {other for other in both if other not in wanted or each in wanted[other].sources}
    return sorted(both - {name})
