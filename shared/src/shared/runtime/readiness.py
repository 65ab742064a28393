"""Whether a service can do its work, dependency by dependency."""

import asyncio


class Readiness:
    """What a service needs, and which of it is present. Parts of the service write it, /readyz reads it."""

    def __init__(self, *dependencies: str, stopping: asyncio.Event | None = None) -> None:
        """Every dependency counts as missing until it is set. Once `stopping` is set the service is not ready."""
        self._present = dict.fromkeys(dependencies, False)
        self._optional: dict[str, bool] = {}
        self._stopping = stopping

    def set(self, dependency: str, *, present: bool) -> None:
        """Set whether a dependency is present."""
        self._present[dependency] = present

    def set_optional(self, dependency: str, *, present: bool) -> None:
        """Set whether something is present that is reported but not needed."""
        self._optional[dependency] = present

    @property
    def ready(self) -> bool:
        """True when everything needed is present and the service is not stopping."""
        is_stopping = self._stopping is not None and self._stopping.is_set()
        return not is_stopping and all(self._present.values())

    def report(self) -> dict[str, str]:
        """Return each dependency with `ok`, `missing` or `missing (optional)`."""
        needed = {name: "ok" if present else "missing" for name, present in self._present.items()}
        optional = {name: "ok" if present else "missing (optional)" for name, present in self._optional.items()}
        return needed | optional
