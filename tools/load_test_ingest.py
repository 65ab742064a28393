"""Sends events to a running EtlPay over HTTP and measures the answers: total, average, p50, p99, maximum, requests/s.

Exit codes: 0 every request was answered 201, 1 at least one was not, 5 nobody answers.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx2

from etlpay_cli.layout import Layout
from etlpay_cli.settings import CliSettings, RootNotFoundError, find_root
from etlpay_cli.stack import running_stack

DEFAULT_URL = "http://127.0.0.1:8000"
UNAVAILABLE = 5


@dataclass
class Measurement:
    """The latencies and answers of the requests."""

    latencies_ms: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def percentile_ms(self, percent: float) -> float:
        """Return the latency that `percent` of the requests did not exceed (nearest rank)."""
        ranked = sorted(self.latencies_ms)
        rank = max(1, -(-len(ranked) * percent // 100))
        return ranked[int(rank) - 1]

    def failures(self) -> int:
        """Return how many requests were answered with anything but 201."""
        return self.statuses.total() - self.statuses["201"]

    def report(self) -> str:
        """Return the measurement in lines of name and value."""
        rows = {
            "total": f"{self.statuses.total()} requests in {self.seconds:.3f} s",
            "average": f"{sum(self.latencies_ms) / len(self.latencies_ms):.2f} ms",
            "p50": f"{self.percentile_ms(50):.2f} ms",
            "p99": f"{self.percentile_ms(99):.2f} ms",
            "maximum": f"{max(self.latencies_ms):.2f} ms",
            "rate": f"{self.statuses.total() / self.seconds:.1f} requests/s",
            "answers": ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items())),
        }
        return "\n".join(f"{name:<8} {value}" for name, value in rows.items())


async def run_client(
    http: httpx2.AsyncClient, client: int, requests: int, source: str, measurement: Measurement
) -> None:
    """Send one client's requests one after the other."""
    for number in range(requests):
        event = {"source_name": source, "payload": {"client": client, "number": number}}
        begun = time.perf_counter()
        try:
            status = str((await http.post("/api/ingest", json=event)).status_code)
        except httpx2.HTTPError as error:
            status = type(error).__name__
        measurement.latencies_ms.append((time.perf_counter() - begun) * 1000)
        measurement.statuses[status] += 1


async def measure(url: str, clients: int, requests: int, source: str) -> Measurement:
    """Let `clients` clients send `requests` requests each, all at once. Raises httpx2.HTTPError when nobody answers."""
    measurement = Measurement()
    limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx2.AsyncClient(base_url=url, limits=limits, timeout=30) as http:
        await http.get("/livez")
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for client in range(clients):
                group.create_task(run_client(http, client, requests, source, measurement))
        measurement.seconds = time.perf_counter() - begun
    return measurement


def running_url() -> str:
    """Return the HTTP address of this checkout's stack, or the usual one where none is up."""
    settings = CliSettings()
    try:
        stack = running_stack(Layout(find_root(settings)), settings)
    except RootNotFoundError:
        return DEFAULT_URL
    return stack.addresses().http if stack is not None else DEFAULT_URL


def positive(text: str) -> int:
    """Return a number of at least one, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=positive, default=10, help="clients at once (default: 10)")
    parser.add_argument("--requests", type=positive, default=10, help="requests of each client (default: 10)")
    parser.add_argument("--url", help=f"address of the HTTP channel (default: the running stack's, else {DEFAULT_URL})")
    parser.add_argument("--source", default="load-test", help="source of the events (default: load-test)")
    arguments = parser.parse_args()
    url = arguments.url or running_url()
    try:
        measurement = asyncio.run(measure(url, arguments.clients, arguments.requests, arguments.source))
    except httpx2.HTTPError as error:
        print(f"error: nobody answers at {url} ({type(error).__name__})", file=sys.stderr)
        return UNAVAILABLE
    except KeyboardInterrupt:
        return 130
    print(measurement.report())
    if measurement.failures():
        print(f"error: {measurement.failures()} requests were not answered 201", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
