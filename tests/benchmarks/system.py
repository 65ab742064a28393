"""The system under measurement: a local stack of its own, and what its processes cost."""

import os
import resource
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil

from etlpay_cli import state
from etlpay_cli.layout import DATABASE, Layout
from shared.contracts.roles import OWNER_ROLE
from support.servers import CHECKOUT, run_etlpay
from support.stack import Stack, run_stack

GENERATOR = "load generator"
_SAMPLE_SECONDS = 0.25
SERVICES = ("processor", "api-gateway", "grpc-ingest", "file-watcher", "queue-consumer")


@dataclass
class Cost:
    """What one measurement cost: CPU seconds and the highest resident memory, by program."""

    cpu_seconds: dict[str, float] = field(default_factory=dict)
    resident_mib: dict[str, float] = field(default_factory=dict)
    machine_seconds: float = 0.0
    """CPU that the whole machine spent, others included."""

    @property
    def others_seconds(self) -> float:
        """CPU that went to programs which have nothing to do with this."""
        return max(0.0, self.machine_seconds - sum(self.cpu_seconds.values()))

    def add(self, other: "Cost") -> None:
        """Add another measurement's cost."""
        for name, seconds in other.cpu_seconds.items():
            self.cpu_seconds[name] = self.cpu_seconds.get(name, 0.0) + seconds
        for name, mib in other.resident_mib.items():
            self.resident_mib[name] = max(self.resident_mib.get(name, 0.0), mib)
        self.machine_seconds += other.machine_seconds


class System:
    """A running stack, its owner's connection with PostgreSQL, and its programs by name."""

    def __init__(self, stack: Stack) -> None:
        """Look up the programs of the stack."""
        self.stack = stack
        self._layout = Layout(stack.root)
        known = state.read_state(self._layout.state)
        if known is None:
            raise RuntimeError("the stack has no state")
        self.ports = known.ports
        password = self._layout.read_secret("postgres/owner_password")
        self.owner_url = f"postgresql://{OWNER_ROLE}:{password}@127.0.0.1:{known.ports['postgres']}/{DATABASE}"
        self.operator_password = self._layout.read_secret("operator/amqp_password")
        self.operator_url = f"amqp://operator:{self.operator_password}@127.0.0.1:{known.ports['amqp']}/"
        self._programs = {name: program.pid for name, program in known.programs.items() if program.pid}

    def pid(self, program: str) -> int:
        """Return the process of a program of the stack."""
        return self._programs[program]

    def watch(self, name: str, pid: int) -> None:
        """Count another process among the programs."""
        self._programs[name] = pid

    @contextmanager
    def cost(self) -> Iterator[Cost]:
        """Yield what the block costs, complete when it ends."""
        measured = Cost()
        programs = self._programs
        before, machine = _cpu_of(programs), _machine_seconds()
        ended = threading.Event()
        sampling = threading.Thread(target=_sample_memory, args=(programs, measured, ended))
        sampling.start()
        try:
            yield measured
        finally:
            ended.set()
            sampling.join()
            measured.machine_seconds = _machine_seconds() - machine
            after = _cpu_of(programs)
            measured.cpu_seconds |= {name: after[name] - before[name] for name in after if name in before}


@contextmanager
def running_system(**settings: str) -> Iterator[System]:
    """Run a stack of its own until the block ends; `settings` are further environment variables of its services."""
    folder = Path(tempfile.mkdtemp(prefix="etlpay-bench-", dir=_folder_on_disk()))
    folder.chmod(0o711)
    try:
        with run_stack("local", folder, **settings) as stack:
            yield System(stack)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def found_system(root: Path) -> Iterator[System]:
    """Yield the local stack that runs already in the checkout `root`; what is measured stays in its ledger."""
    environment = {**os.environ, "ETLPAY_ROOT": str(root)}  # noqa: TID251 - the command's environment
    told = msgspec.json.decode(run_etlpay("status", "--json", environment=environment).stdout)
    if told["mode"] != state.LOCAL:
        raise RuntimeError("only a local stack can be measured: its processes are looked at")
    yield System(Stack(**told | {"inbox": Path(told["inbox"])}, root=root, environment=environment))


def _folder_on_disk() -> Path | None:
    """Return a folder on the disk that the checkout is on where the usual one is kept in memory: fsync must count."""
    usual = Path(tempfile.gettempdir())
    kinds = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    return CHECKOUT.parent if kinds.get(usual) == "tmpfs" else None


def _cpu_of(programs: Mapping[str, int]) -> dict[str, float]:
    """Return the CPU seconds of each program, of its children, living and dead, and of this process's children."""
    used = {}
    for name, pid in programs.items():
        try:
            process = psutil.Process(pid)
            family = [process, *process.children(recursive=True)]
            used[name] = sum(_seconds(member) for member in family)
        except psutil.NoSuchProcess:
            continue
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = resource.getrusage(resource.RUSAGE_SELF)
    used[GENERATOR] = sum(spent.ru_utime + spent.ru_stime for spent in (children, own))
    return used


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def _machine_seconds() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def _sample_memory(programs: Mapping[str, int], cost: Cost, ended: threading.Event) -> None:
    while True:
        for name in SERVICES:
            try:
                mib = psutil.Process(programs[name]).memory_info().rss / 1024**2
            except (KeyError, psutil.NoSuchProcess):
                continue
            cost.resident_mib[name] = max(cost.resident_mib.get(name, 0.0), mib)
        if ended.wait(_SAMPLE_SECONDS):
            return
