"""A plan: what applying pipeline files would do."""

import hashlib
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from processor.pipelines.folder import PipelineFile
from processor.pipelines.registry import Version
from processor.pipelines.stored import Comparison
from shared.pipelines.ddl.change import STRUCTURAL, Change

Action = Literal["new", "new version", "activate", "repair", "unchanged", "kept", "refused"]
"""new: a pipeline's first version. new version: of one that is known. activate: a version that is registered. repair:
the version is active, and PostgreSQL lacks something of it. kept: somebody chose another version, or off."""

_TOKEN_DIGITS: Final = 12
_IDLE: Final = frozenset({"unchanged", "kept", "refused"})


class PipelinePlan(msgspec.Struct, frozen=True):
    """What would be done about one pipeline. `notes` say what does not change the work; `problems` refuse it."""

    name: str
    action: Action
    file: PipelineFile
    active: Version | None = None
    known: Version | None = None
    number: int = 0
    generations: dict[str, int] = {}
    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    comparison: Comparison | None = None

    @property
    def is_work(self) -> bool:
        """Something would be done."""
        return self.action not in _IDLE

    @property
    def statements(self) -> tuple[str, ...]:
        """All DDL, in its order."""
        moments = ("before", "within", "after")
        return tuple(sql for moment in moments for sql in self.statements_at(moment))

    def statements_at(self, moment: str) -> tuple[str, ...]:
        """Return the DDL of one moment."""
        if not self.is_work:
            return ()
        return tuple(sql for each in self.changes if each.moment == moment for sql in each.statements)

    def steps(self) -> Iterator[str]:
        """Yield all that would be done, each as a text: two plans with the same texts do the same."""
        if not self.is_work or self.file.bundle is None:
            return
        before = self.active.version if self.active else "none"
        yield f"{self.name}: {self.action}, version {before} to {self.number} (sha256 {self.file.bundle.sha256})"
        for change in self.changes:
            yield f"{self.name}: {change.line}"
            # Two statements may differ where their lines do not, as of a view.
            yield from (f"{self.name}: {sql}" for sql in change.statements)


class Plan(msgspec.Struct, frozen=True):
    """What would be done about all pipelines. `notes` are about pipelines without a file."""

    pipelines: tuple[PipelinePlan, ...]
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[str, ...]:
        """All that would be done, each as a text."""
        return tuple(step for each in self.pipelines for step in each.steps())

    @property
    def token(self) -> str:
        """What names this plan; another one has another token."""
        return hashlib.sha256("\n".join(self.steps).encode()).hexdigest()[:_TOKEN_DIGITS]

    @property
    def refused(self) -> bool:
        """A pipeline is refused."""
        return any(each.action == "refused" for each in self.pipelines)

    @property
    def is_work(self) -> bool:
        """Something would be done."""
        return any(each.is_work for each in self.pipelines)


def structural_problems(changes: tuple[Change, ...]) -> tuple[str, ...]:
    """Return why changes cannot be applied, with what can be done instead."""
    return tuple(
        f"{each.what}: {each.detail}. Stored rows would be wrong, and rebuilding them beside is not built yet: "
        "keep what the file said, or declare another table"
        if each.kind == STRUCTURAL and "by hand" not in each.detail
        else f"{each.what}: {each.detail}"
        for each in changes
        if each.kind == STRUCTURAL
    )
