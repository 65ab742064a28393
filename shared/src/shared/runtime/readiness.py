"""Whether a service can do its work, dependency by dependency."""


class Readiness:
    """What a service needs, and which of it is there. Written by those who hold a dependency, read by /readyz."""

    def __init__(self, *dependencies: str) -> None:
        """Every dependency counts as missing until it is set."""
        self._present = dict.fromkeys(dependencies, False)
        self._optional: dict[str, bool] = {}
        self.draining = False

    def set(self, dependency: str, *, present: bool) -> None:
        """Say whether a dependency is there."""
        self._present[dependency] = present

    def set_optional(self, dependency: str, *, present: bool) -> None:
        """Say whether something is there that is shown but not needed."""
        self._optional[dependency] = present

    @property
    def ready(self) -> bool:
        """True when everything needed is there and the service is not draining."""
        return not self.draining and all(self._present.values())

    def report(self) -> dict[str, str]:
        """Return each dependency with `ok`, `missing` or `missing (optional)`."""
        needed = {name: "ok" if present else "missing" for name, present in self._present.items()}
        optional = {name: "ok" if present else "missing (optional)" for name, present in self._optional.items()}
        return needed | optional
