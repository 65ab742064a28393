"""The answer of `GET /api/totals`: which totals there are, and whether they hold."""

import msgspec


class TotalState(msgspec.Struct, frozen=True, kw_only=True):
    """A total of an active version: the view that people read, and the table whose rows it sums.

    `must`: what has to hold for each row. `holding` and `failing`: of how many rows it does, and does not. Both are
    null for the sums of a table with money, which only say what came in.
    """

    name: str
    view: str
    of: str
    pipeline: str
    version: int | None
    must: tuple[str, ...]
    holding: int | None
    failing: int | None


class TotalPage(msgspec.Struct, frozen=True):
    """Totals, by name; `next` is the cursor of the next page, null on the last."""

    items: list[TotalState]
    next: str | None
