"""Which modules of the product handle one event, from its channel to the ledger: found by a profile function."""

from collections import deque
from types import FrameType

import msgspec
from google.protobuf.message import Message

from support.servers import CHECKOUT

_COMMITTED = "processor.committed"
_DEPTH_MAX = 6
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
        self.function = frame.f_code.co_qualname
        self.caller = caller
        self.handles = False


class Trace:
    """The calls until the commit of the event whose payload holds `mark`; `note` is a profile function."""

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode()
        self._steps: dict[FrameType, Step] = {}
        self._handling: list[Step] = []
        self.committed = False

    def note(self, frame: FrameType, event: str, value: object) -> None:
        """Note a call, and whether a value that holds the payload is given to it, made by it or returned."""
        if self.committed or event not in {"call", "return"} or frame.f_code.co_filename not in _FILES:
            return
        step = self._step(frame)
        values = list(frame.f_locals.values())
        if _COMMITTED in [each for each in values if isinstance(each, str)]:
            self.committed = True
        elif not step.handles and any(self._holds(each) for each in (value, *values)):
            step.handles = True
            self._handling.append(step)

    @property
    def stations(self) -> dict[str, set[str]]:
        """The modules that handle the event, as it meets them, each with its functions."""
        found: dict[str, set[str]] = {}
        for step in self._handling:
            found.setdefault(step.file, set()).add(step.function)
        return found

    @property
    def helpers(self) -> set[str]:
        """The modules that those call for the event and that do not see it, such as limits and counters."""
        return {step.file for step in list(self._steps.values()) if _for_the_event(step)} - set(self.stations)

    def _step(self, frame: FrameType) -> Step:
        step = self._steps.get(frame)
        if step is None:
            back = frame.f_back
            while back is not None and back not in self._steps:
                back = back.f_back
            step = self._steps[frame] = Step(frame, self._steps[back] if back is not None else None)
        return step

    def _holds(self, value: object, depth: int = 0) -> bool:
        if isinstance(value, bytes | bytearray | memoryview | msgspec.Raw):
            return self._mark in bytes(value)
        if isinstance(value, str):
            return self._mark.decode() in value
        if isinstance(value, Message):
            return self._mark in value.SerializeToString()
        if isinstance(value, msgspec.Struct):
            parts = [getattr(value, name) for name in value.__struct_fields__]
        elif isinstance(value, dict):
            parts = list(value.values())
        else:
            parts = list(value) if isinstance(value, list | tuple | deque) else []
        return depth < _DEPTH_MAX and any(self._holds(each, depth + 1) for each in parts)


def _for_the_event(step: Step) -> bool:
    caller = step.caller
    while caller is not None and not caller.handles:
        caller = caller.caller
    return caller is not None
