"""The active versions of the pipelines, found by the source of an event. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from shared.pipelines.compiling import PipelineProgram
from shared.pipelines.typed_tables import TypedTable

_SOURCES_MAX: Final = 10_000
_ANY: Final = "*"


class ActivePipeline(msgspec.Struct, frozen=True, eq=False):
    """An active version, compiled. `id` is that of the ledger; `tables` are in the order of the file.

    `program`: None where it cannot be run here; it is held then.
    """

    id: int
    name: str
    version: int
    sources: tuple[str, ...]
    program: PipelineProgram | None
    tables: tuple[TypedTable, ...]


class ActiveSet:
    """The pipelines that run, and those whose events are kept and not processed; another replaces it as a whole."""

    def __init__(self, pipelines: Iterable[ActivePipeline] = (), held: Mapping[str, str] | None = None) -> None:
        """`held` has the reason by the name of a pipeline."""
        self.pipelines = tuple(pipelines)
        self.held: Mapping[str, str] = held or {}
        self._by_source: dict[str, ActivePipeline | None] = {}
        # The most specific comes first: a name before the beginnings of names, and of these the longest.
        self._patterns = sorted(
            ((pattern, each) for each in self.pipelines for pattern in each.sources),
            key=lambda pair: (pair[0].endswith(_ANY), -len(pair[0])),
        )

    def of(self, source: str) -> ActivePipeline | None:
        """Return the pipeline of the events of a source, or None."""
        try:
            return self._by_source[source]
        except KeyError:
            return self._remember(source)

    def _remember(self, source: str) -> ActivePipeline | None:
        if len(self._by_source) >= _SOURCES_MAX:
            self._by_source.clear()
        found = next((each for pattern, each in self._patterns if _takes(pattern, source)), None)
        self._by_source[source] = found
        return found


def _takes(pattern: str, source: str) -> bool:
    return source.startswith(pattern[:-1]) if pattern.endswith(_ANY) else source == pattern


NO_PIPELINES: Final = ActiveSet()
