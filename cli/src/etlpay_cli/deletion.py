"""What `etlpay clean` would delete, so that it can ask before a ledger is deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from etlpay_cli.local.postgres import COUNTED_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etlpay_cli.layout import Layout
    from etlpay_cli.stack import Stack


class Deletion(msgspec.Struct, frozen=True, kw_only=True):
    """What would be gone: events of the ledgers (None: nobody can count them now), and files that wait to be read."""

    events: int | None
    files: int

    @property
    def harmless(self) -> bool:
        """True where nothing is lost."""
        return self.events == 0 and self.files == 0

    def describe(self) -> str:
        """Return what is lost, for people."""
        number = self.events or 0
        events = f"more than {COUNTED_MAX:,}" if number > COUNTED_MAX else f"{number:,}"
        return f"{events} events, {self.files:,} files that were not read, the queues, the filed files and the secrets"


def look(layout: Layout, stacks: Sequence[Stack]) -> Deletion:
    """Return what deleting these stacks and the files channel would lose."""
    counts = [stack.count_events() for stack in stacks]
    known = [count for count in counts if count is not None]
    waiting = (path for name in ("inbox", "work") for path in (layout.files / name).rglob("*") if path.is_file())
    return Deletion(events=sum(known) if len(known) == len(counts) else None, files=sum(1 for _ in waiting))
