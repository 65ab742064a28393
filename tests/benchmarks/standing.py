"""What is measured of a system that stands: how fast it answers questions, and what it costs when nothing happens."""

import asyncio
import http.client
import os
import random
import statistics
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

from api_gateway.queries.records import RecordCursor
from benchmarks.ledger import Ledger, Place
from benchmarks.system import GENERATOR, System

_ASKED_TIMES = 200
# RabbitMQ starts an Erlang VM of 0.2 seconds of CPU every minute, to see that epmd is there (rabbit_epmd_monitor).
_IDLE_SECONDS = 60.0
_SETTLING_SECONDS = 30.0


class Reading(msgspec.Struct, frozen=True):
    """One figure, and how much it may be at most; None: it is reported, and not judged."""

    title: str
    value: float
    most: float | None
    unit: str
    detail: str

    @property
    def missed(self) -> bool:
        """True where it is exceeded."""
        return self.most is not None and self.value > self.most


async def standing_readings(system: System, ledger: Ledger) -> list[Reading]:
    """Return the readings of the ledger as it is now."""
    events = await ledger.events()
    places = await ledger.places(_ASKED_TIMES, random.Random(1))  # noqa: S311 - which rows are asked for is no secret
    readings = [
        await asyncio.to_thread(_ask, system.stack.http, title, paths, events)
        for title, paths in _questions(places).items()
    ]
    await asyncio.sleep(_SETTLING_SECONDS)
    with system.cost() as cost:
        await asyncio.sleep(_IDLE_SECONDS)
    shares = {
        name: 100 * seconds / _IDLE_SECONDS / (os.cpu_count() or 1)
        for name, seconds in cost.cpu_seconds.items()
        if name != GENERATOR
    }
    detail = ", ".join(f"{name} {share:.2f}" for name, share in sorted(shares.items(), key=lambda item: -item[1]))
    return [*readings, Reading("everything at rest", sum(shares.values()), 1, "% of the machine's CPU", detail)]


def _questions(places: Sequence[Place]) -> dict[str, list[str]]:
    cursors = [RecordCursor(place.processed_at, place.id).encode() for place in places]
    records = "/api/processed-records"
    return {
        f"GET {records}, the first page": [records] * len(places),
        f"GET {records}, any page": [f"{records}?cursor={cursor}" for cursor in cursors],
        f"GET {records}, of a source, any page": [
            f"{records}?source={place.source}&cursor={cursor}" for place, cursor in zip(places, cursors, strict=True)
        ],
        "GET /api/sources": ["/api/sources"] * len(places),
        "GET /api/events/{id}": [f"/api/events/{place.event_id}" for place in places],
    }


def _ask(url: str, title: str, paths: Sequence[str], events: int) -> Reading:
    """Ask one after the other over one connection; the first answer prepares what the later ones have ready."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    took_ms = []
    for path in [paths[0], *paths]:
        began = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        took_ms.append(1000 * (time.perf_counter() - began))
        if answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{title}: {answer.status}")
    connection.close()
    took_ms = sorted(took_ms[1:])
    late = took_ms[len(took_ms) * 99 // 100]
    detail = f"{events:,} events stored; median of {len(took_ms)}, p99 {late:.1f} ms"
    return Reading(title, statistics.median(took_ms), 10, "ms", detail)
