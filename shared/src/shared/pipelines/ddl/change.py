"""A change of what PostgreSQL holds, or of what a pipeline means. Pure."""

from typing import Final, Literal

import msgspec

Kind = Literal["compatible", "structural"]
"""`compatible` is applied at once; `structural` would make what is stored wrong, and is refused. Nothing is ever
dropped, renamed or rewritten: there is no statement for it."""

Sign = Literal["+", "~", "-"]
"""New; changed; no longer taken, and kept."""

Moment = Literal["before", "within", "after"]
"""When the statements run: before the transaction of the pipeline and outside it, within it, or after it."""

COMPATIBLE: Final[Kind] = "compatible"
STRUCTURAL: Final[Kind] = "structural"


class Change(msgspec.Struct, frozen=True):
    """One line of a plan. `detail` says more; of a structural change, what to do.

    `statements`: SQL, each complete and without a semicolon; none where only the meaning of the file changes.
    """

    sign: Sign
    what: str
    detail: str = ""
    kind: Kind = COMPATIBLE
    statements: tuple[str, ...] = ()
    moment: Moment = "within"

    @property
    def line(self) -> str:
        """The change as one line, without its kind."""
        return f"{self.sign} {self.what}" + (f"  {self.detail}" if self.detail else "")
