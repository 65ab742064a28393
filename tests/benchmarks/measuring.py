"""A line of the table: a case, its limit, its peers, each measured once a round, and what is required of it."""

import asyncio
import statistics
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from benchmarks.ledger import Found, Ledger
from benchmarks.system import GENERATOR, Cost, System

TESTS_FOLDER = Path(__file__).resolve().parents[1]
# A payload of this size is the realistic one; the figures are asked of it.
REALISTIC = "850"
_GROWN_RATIO_MIN = 0.8


class Sample(msgspec.Struct, frozen=True):
    """One measurement: how many events, how many a second, and latencies where a caller waits."""

    events: int
    rate: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    generator_seconds: float | None = None
    """CPU of the load generator while it sent, without its preparations."""


class Lost(AssertionError):  # noqa: N818 - what it says
    """The ledger does not hold exactly what was sent: nothing that was measured counts."""


@dataclass(frozen=True)
class Bench:
    """What every measurement needs."""

    system: System
    ledger: Ledger
    events: int
    rows: int
    seconds: float
    folder: Path
    costs: list[Cost] = field(default_factory=list)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count what the block costs: the part of a measurement that the clock runs for."""
        with self.system.cost() as cost:
            yield
        self.costs.append(cost)


Measure = Callable[[Bench, str], Awaitable[Sample]]
"""Takes the bench and a name that no other measurement has, which serves as source."""


@dataclass
class Line:
    """One line of the table."""

    case: str
    title: str
    size: str
    measure: Measure
    beside: str
    limit: Measure
    peers: Mapping[str, Measure] = field(default_factory=dict)
    ratio_min: float | None = None
    rate_min: float | None = None
    p50_ms_max: float | None = None
    p99_ms_max: float | None = None
    turns: int = 1
    """How many times a round measures it, for what varies from one minute to the next."""
    samples: list[Sample] = field(default_factory=list)
    limits: list[Sample] = field(default_factory=list)
    peer_samples: dict[str, list[Sample]] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)

    @property
    def rate(self) -> float:
        """The median rate."""
        return statistics.median(sample.rate for sample in self.samples)

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios: both sides of each were measured one after the other."""
        pairs = zip(self.samples, self.limits, strict=True)
        return statistics.median(sample.rate / limit.rate for sample, limit in pairs)

    def latency_ms(self, name: str) -> float | None:
        """Return the median over the rounds of `p50_ms` or `p99_ms`."""
        found = [value for sample in self.samples if (value := getattr(sample, name)) is not None]
        return statistics.median(found) if found else None

    def misses(self) -> list[str]:
        """Return what is required and not reached."""
        asked = [
            (f"ratio {self.ratio:.2f} < {self.ratio_min}", self.ratio_min is not None and self.ratio < self.ratio_min),
            (f"rate {self.rate:,.0f} < {self.rate_min}", self.rate_min is not None and self.rate < self.rate_min),
            *self._late("p50_ms", self.p50_ms_max),
            *self._late("p99_ms", self.p99_ms_max),
        ]
        return [text for text, missed in asked if missed]

    def _late(self, name: str, most: float | None) -> list[tuple[str, bool]]:
        found = self.latency_ms(name)
        return [(f"{name} {found:.1f} > {most}", found > most)] if most is not None and found is not None else []


async def run_line(bench: Bench, line: Line, rounds: int, show: Callable[[str], None]) -> None:
    """Measure a line: limit, peers and case one after the other, round after round."""
    for number, times in _numbers(line, rounds):
        name, said = _name(line), f"{line.title}, {line.size} bytes, {number} of {times}"
        await bench.ledger.settle()
        show(f"{said}: {line.beside}")
        line.limits.append(await line.limit(bench, f"{name}-limit"))
        for peer, measure in line.peers.items():
            await bench.ledger.settle()
            show(f"{said}: {peer}")
            line.peer_samples.setdefault(peer, []).append(await measure(bench, f"{name}-peer"))
        show(said)
        await _measure_case(bench, line, name)


async def run_case(bench: Bench, line: Line, rounds: int, show: Callable[[str], None]) -> None:
    """Measure a line's case alone. One round before the first does not count: the caches hold what was done before."""
    await _measure_case(bench, replace(line, samples=[], cost=Cost()), _name(line))
    for number, times in _numbers(line, rounds):
        show(f"{line.title}, {line.size} bytes, {number} of {times}")
        await _measure_case(bench, line, _name(line))


def only_ratio(line: Line) -> Line:
    """Return the same line without its absolute figures: they are reported, and not judged."""
    return replace(line, rate_min=None, p50_ms_max=None, p99_ms_max=None)


def grown(line: Line, stored: int) -> Line:
    """Return the same case on a ledger that holds so many events, beside what it reached on the empty one."""
    return replace(
        only_ratio(line),
        title=f"{line.title}, {stored / 1e6:g} million stored",
        beside="the same, nothing stored",
        limits=line.samples,
        peers={},
        ratio_min=_GROWN_RATIO_MIN,
        samples=[],
        cost=Cost(),
    )


async def _measure_case(bench: Bench, line: Line, name: str) -> None:
    await bench.ledger.settle()
    bench.costs.clear()
    sample = await line.measure(bench, name)
    line.samples.append(sample)
    for cost in bench.costs:
        if sample.generator_seconds is not None:
            cost.cpu_seconds[GENERATOR] = sample.generator_seconds
        line.cost.add(cost)


def _numbers(line: Line, rounds: int) -> Iterator[tuple[int, int]]:
    """Yield the number of each measurement, from 1, beside how many there are."""
    times = rounds * line.turns
    yield from ((number, times) for number in range(1, times + 1))


def _name(line: Line) -> str:
    """Return a name for a measurement: a system that runs longer than it may hold the events of an earlier one."""
    return f"{line.case}-{line.size}-{uuid.uuid4().hex[:8]}".replace(" ", "-")


def require_exact(found: Found, sent: int, *, in_flight_max: int = 0) -> None:
    """Raise Lost unless the ledger holds what was sent: nothing else, nothing twice, nothing changed.

    `in_flight_max`: how many requests a generator may have cut off unanswered at its end; those alone may be missing.
    """
    if not (
        sent - in_flight_max <= found.events <= sent
        and found.events == found.distinct == found.exact == found.successes
    ):
        raise Lost(f"sent {sent}, found {found}")


async def run_tool(*command: str, environment: Mapping[str, str] | None = None) -> str:
    """Run a program of the benchmarks to its end; return what it printed. Raises RuntimeError where it fails."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=TESTS_FOLDER,
        env=environment,
    )
    printed, complaints = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{command[:4]} failed: {complaints.decode()[-2000:]}")
    return printed.decode()


async def generate(module: str, *arguments: object) -> Sample:
    """Run one of our own load generators as a process of its own; return the sample that it prints."""
    printed = await run_tool(sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments))
    return msgspec.json.decode(printed.encode(), type=Sample)


async def store_limit(bench: Bench, _source: str, *, size: str) -> Sample:
    """COPY of the same rows into the same tables."""
    return Sample(bench.events, await bench.ledger.copy_limit(size, bench.events))
