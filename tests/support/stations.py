"""Which modules of the product handle one event: a profile of the process that carries it from its channel to the ledger."""

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import msgspec
from google.protobuf.message import Message

from support.servers import CHECKOUT

_PAGE = CHECKOUT / "ARCHITECTURE.md"
_DEPTH_MAX = 6
_COMMITTED = "processor.committed"
_FILES = {
    str(path): str(path.relative_to(sources))
    for sources in (*CHECKOUT.glob("*/src"), *CHECKOUT.glob("services/*/src"))
    for path in sources.rglob("*.py")
    if "_pb2" not in path.name
}


class Step:
    """One call of a function of the product."""

    def __init__(self, frame: FrameType, caller: "Step | None") -> None:
        self.file = _FILES[frame.f_code.co_filename]
        self.function = frame.f_code.co_qualname if sys.version_info >= (3, 11) else frame.f_code.co_name
        self.caller = caller
        self.handles = False


class Trace:
    """The calls until the commit of the event whose payload holds `mark`."""

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode()
        self._steps: dict[FrameType, Step] = {}
        self._handling: list[Step] = []
        self.committed = False

    def note(self, frame: FrameType, event: str, value: object) -> None:
        """Note a call, and whether it is given, makes or returns a value that holds the event. A profile function."""
        if self.committed or event not in {"call", "return"} or frame.f_code.co_filename not in _FILES:
            return
        step = self._step(frame)
        found = dict(frame.f_locals)
        if event == "call" and _COMMITTED in found.values():
            self.committed = True
        elif not step.handles and any(self._holds(each) for each in (value, *found.values())):
            step.handles = True
            self._handling.append(step)

    @property
    def stations(self) -> dict[str, set[str]]:
        """The modules that handle the event, in the order in which it meets them, each with its functions."""
        found: dict[str, set[str]] = {}
        for step in self._handling:
            found.setdefault(step.file, set()).add(step.function)
        return found

    @property
    def helpers(self) -> set[str]:
        """The modules that those call on its behalf, and that never see it."""
        called = {step.file for step in list(self._steps.values()) if step.caller is not None and step.caller.handles}
        return called - set(self.stations)

    def _step(self, frame: FrameType) -> Step:
        step = self._steps.get(frame)
        if step is None:
            back = frame.f_back
            while back is not None and back not in self._steps:
                back = back.f_back
            step = self._steps[frame] = Step(frame, self._steps[back] if back is not None else None)
        return step

    def _holds(self, value: object, depth: int = 0) -> bool:
        match value:
            case bytes() | bytearray() | memoryview() | msgspec.Raw():
                return self._mark in bytes(value)
            case str():
                return self._mark.decode() in value
            case Message():
                return self._mark in value.SerializeToString()
            case _ if depth == _DEPTH_MAX:
                return False
            case list() | tuple():
                return any(self._holds(each, depth + 1) for each in value)
            case dict():
                return any(self._holds(each, depth + 1) for each in value.values())
            case msgspec.Struct():
                return any(self._holds(getattr(value, name), depth + 1) for name in value.__struct_fields__)
        return False
