"""What a running system may not show whatever is done to it: crashes, tracebacks, payloads in logs, growing memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil

from support.stack import Stack

MEMORY_BYTES_MAX: Final = 150 * 1024 * 1024
SERVICES: Final = ("api-gateway", "file-watcher", "grpc-ingest", "processor", "queue-consumer")


class Witness:
    """Watches the five services of a local stack from when it is made until `check`."""

    def __init__(self, stack: Stack) -> None:
        """Remember which processes run and how long their logs are, and let their peaks of memory begin anew."""
        self._stack = stack
        self._logs = stack.root / ".etlpay" / "logs"
        self._pids = dict(self._running())
        self._read = {path: path.stat().st_size for path in self._logs.glob("*.log")}
        self._rotated = {path: path.stat().st_mtime_ns for path in self._logs.glob("*.log.1")}
        for pid in self._pids.values():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def check(self, *secrets: bytes) -> None:
        """Fail unless all is as it was; none of `secrets` may stand in a log that was written since."""
        assert dict(self._running()) == self._pids, "a service ended and was started again"
        assert sorted(self._pids) == sorted(SERVICES)
        peaks = {name: peak_bytes(pid) for name, pid in self._pids.items()}
        assert {name: peak // 2**20 for name, peak in peaks.items() if peak > MEMORY_BYTES_MAX} == {}
        written = {path.name: self._written(path) for path in self._logs.glob("*.log")}
        assert [name for name, text in written.items() if b"Traceback" in text] == []
        assert [name for name, text in written.items() if any(secret in text for secret in secrets)] == []
        lines = {name: written[f"{name}.log"].splitlines() for name in SERVICES}
        assert {name: line for name, found in lines.items() for line in found if not _is_object(line)} == {}

    def _running(self) -> Iterator[tuple[str, int]]:
        folder = str(self._stack.root / ".etlpay" / "run")
        for process in psutil.process_iter():
            try:
                if process.cwd() == folder:
                    yield process.cmdline()[2].replace("_", "-"), process.pid
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue

    def _written(self, path: Path) -> bytes:
        """Return what was written since, and more where the log was begun anew meanwhile: all that is kept of it."""
        before = path.with_suffix(".log.1")
        if before.exists() and before.stat().st_mtime_ns != self._rotated.get(before):
            return before.read_bytes() + path.read_bytes()
        return path.read_bytes()[self._read.get(path, 0) :]


def _is_object(line: bytes) -> bool:
    try:
        found: Any = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return False
    return isinstance(found, dict)


def peak_bytes(pid: int) -> int:
    """Return the largest resident memory of a process since it was asked to count anew."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
