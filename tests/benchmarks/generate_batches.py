"""Posts NDJSON batches over a few connections: `URL SOURCE SIZE EVENTS EVENTS_PER_REQUEST CONNECTIONS`."""

import http.client
import itertools
import sys
import threading
import time
from urllib.parse import urlsplit

import msgspec

from benchmarks.measuring import Sample
from benchmarks.payloads import http_document

_HEADERS = {"Content-Type": "application/x-ndjson"}


def post_all(address: str, requests: "itertools.count[int]", bodies: list[bytes], problems: list[str]) -> None:
    """Post what nobody has posted yet over one connection until nothing is left."""
    connection = http.client.HTTPConnection(address, timeout=120)
    while (number := next(requests)) < len(bodies):
        connection.request("POST", "/api/ingest/batch", bodies[number], _HEADERS)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200 or b'"complete":true' not in said[-64:]:
            problems.append(f"{answer.status} {said[-300:]!r}")
    connection.close()


def main() -> None:
    """Prepare every request, then send them and print the sample."""
    url, source, size, *numbers = sys.argv[1:]
    events, per_request, connections = map(int, numbers)
    bodies = [
        b"\n".join(http_document(size, source, number) for number in range(first, min(first + per_request, events + 1)))
        for first in range(1, events + 1, per_request)
    ]
    requests, problems = itertools.count(), list[str]()
    arguments = (urlsplit(url).netloc, requests, bodies, problems)
    threads = [threading.Thread(target=post_all, args=arguments) for _ in range(connections)]
    began, used = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    if problems:
        sys.exit(f"{len(problems)} requests failed, such as: {problems[0]}")
    sys.stdout.buffer.write(
        msgspec.json.encode(Sample(events, events / seconds, generator_seconds=time.process_time() - used))
    )


if __name__ == "__main__":
    main()
