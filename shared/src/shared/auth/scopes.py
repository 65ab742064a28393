"""Which sources a caller may name, and what it may do with them. Pure."""

from collections.abc import Sequence

from shared.auth.keys import Right
from shared.contracts.errors import EtlPayError, InvalidEventError, Problem


class OutOfScopeError(InvalidEventError):
    """The source is not one of the API key's. The error does not say which others exist."""

    def __init__(self, pointer: str = "/source_name") -> None:
        """`pointer` is the place of the source in the input."""
        super().__init__([Problem(pointer, "is not among the sources of this API key")])


class RightMissingError(EtlPayError):
    """The API key is valid, and was not made for this."""

    def __init__(self, right: Right) -> None:
        """`right` is the missing one."""
        super().__init__(f"the API key may not {right}")
        self.right = right


class Scope:
    """A set of sources: exact names, and beginnings of names."""

    def __init__(self, sources: Sequence[str]) -> None:
        """`sources` as in the file of keys: a name, or a beginning that ends with `*`; `*` alone is every source."""
        self.beginnings = tuple(source.removesuffix("*") for source in sources if source.endswith("*"))
        self.names = frozenset(source for source in sources if not source.endswith("*"))
        self.everything = "" in self.beginnings

    def covers(self, source: str) -> bool:
        """Return True where the source is in the set."""
        return source in self.names or source.startswith(self.beginnings)

    def covers_all(self, pattern: str) -> bool:
        """Return True where every source that `pattern` names (see above) is in the set."""
        return pattern[:-1].startswith(self.beginnings) if pattern.endswith("*") else self.covers(pattern)

    def meets(self, pattern: str) -> bool:
        """Return True where a source of the set is the one, or one of those, that `pattern` names (see above)."""
        if not pattern.endswith("*"):
            return self.covers(pattern)
        begin = pattern[:-1]
        return begin.startswith(self.beginnings) or any(
            each.startswith(begin) for each in (*self.names, *self.beginnings)
        )


EVERY_SOURCE = Scope(("*",))
