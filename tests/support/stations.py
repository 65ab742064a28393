"""Which modules of the product handle one event, from its channel to the ledger: found by a profile function."""

from collections import deque
from itertools import groupby
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

    def __init__(self, frame: FrameType) -> None:
        self.file = _FILES[frame.f_code.co_filename]
        self.function = frame.f_code.co_qualname
        self.handles = False


class Trace:
    """The calls until the commit of the event whose payload holds `mark`; `note` is a profile function.

    `release` ends it.

    `forms` are the classes of the values that hold it: structures, named tuples and messages of protobuf.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode()
        self._steps: dict[FrameType, Step] = {}
        self._handling: list[Step] = []
        self.forms: set[str] = set()
        self.committed = False

    def release(self) -> None:
        """Let go of the frames, and with them of what they hold."""
        self._steps.clear()

    def note(self, frame: FrameType, event: str, value: object) -> None:
        """Note a call, and whether a value that holds the payload is given to it, made by it or returned."""
        if self.committed or event not in {"call", "return"} or frame.f_code.co_filename not in _FILES:
            return
        step = self._steps.setdefault(frame, Step(frame))
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

    def rooms(self, service: str) -> list[str]:
        """Return the rooms of an edge service through which the event goes until the broker's client has it."""
        files = [step.file for step in self._handling]
        until = next((place for place, file in enumerate(files) if file.startswith("shared/messaging/")), len(files))
        rooms = [_room(file) for file in files[:until] if file.startswith(f"{service}/")]
        return [room for room, _ in groupby(rooms)]

    def _holds(self, value: object, depth: int = 0) -> bool:
        if isinstance(value, bytes | bytearray | memoryview | msgspec.Raw):
            return self._mark in bytes(value)
        if isinstance(value, str):
            return self._mark.decode() in value
        if isinstance(value, Message):
            parts: list[object] = [value.SerializeToString()]
        elif isinstance(value, msgspec.Struct):
            parts = [getattr(value, name) for name in value.__struct_fields__]
        elif isinstance(value, dict):
            parts = list(value.values())
        else:
            # Deliveries and messages of the broker's client hold what they carry in `body`.
            parts = list(value) if isinstance(value, list | tuple | deque) else [getattr(value, "body", None)]
        found = depth < _DEPTH_MAX and any(self._holds(each, depth + 1) for each in parts)
        if found and (isinstance(value, Message | msgspec.Struct) or hasattr(value, "_fields")):
            self.forms.add(type(value).__name__)
        return found


def _room(file: str) -> str:
    """Return the package within a service in which a module is; a module beside them is a room by itself."""
    return file.rpartition("/")[0] if file.count("/") > 1 else file
