"""Peers that serve: the same server library with nothing behind it. `python -m benchmarks.servers asgi|grpc PORT`."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc.aio
import uvicorn
import uvloop

from benchmarks.measuring import TESTS_FOLDER
from etlpay_client import etlpay_pb2 as pb
from etlpay_client.etlpay_pb2_grpc import EtlServiceServicer, add_EtlServiceServicer_to_server
from support.servers import free_port

HTTP_CPU = max(os.sched_getaffinity(0))
"""The CPU that the gateway and the bare endpoint keep to."""

_START_SECONDS_MAX = 20.0
_POLL_SECONDS = 0.05
_ANSWER = b'{"id":1,"status":"SUCCESS"}'
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(_ANSWER)).encode())]


async def bare_endpoint(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401, ARG001 - as ASGI has it
    """Read the request and answer a constant."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 201, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _ANSWER})


class EmptyServicer(EtlServiceServicer):
    """Answers a constant."""

    async def Ingest(self, request: pb.IngestRequest, context: Any) -> pb.IngestResponse:  # noqa: ANN401, ARG002, N802 - as gRPC has it
        """Return the same answer to every request."""
        return pb.IngestResponse(id=1, status="SUCCESS")

    async def IngestStream(self, requests: AsyncIterator[pb.IngestBatchRequest], context: Any) -> Any:  # noqa: ANN401, ARG002, N802 - as gRPC has it
        """Return as many answers as there were requests."""
        async for batch in requests:
            yield pb.IngestBatchResponse(responses=[pb.IngestResponse(id=1, status="SUCCESS")] * len(batch.requests))


async def serve_grpc(port: int) -> None:
    """Serve the empty servicer."""
    server = grpc.aio.server()
    add_EtlServiceServicer_to_server(EmptyServicer(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


@contextmanager
def peer(kind: str) -> Iterator[int]:
    """Run a peer as a process of its own; yield its port once it listens."""
    port = free_port()
    process = subprocess.Popen((sys.executable, "-m", "benchmarks.servers", kind, str(port)), cwd=TESTS_FOLDER)
    try:
        _wait_until_listening(port)
        yield port
    finally:
        process.kill()
        process.wait()


def _wait_until_listening(port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS_MAX
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(_POLL_SECONDS)  # noqa: TID251 - no event loop runs meanwhile that anybody waits for
        else:
            return
    raise TimeoutError("a peer does not listen")


def main() -> None:
    """Serve until killed."""
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "grpc":
        uvloop.run(serve_grpc(port))
        return
    os.sched_setaffinity(0, {HTTP_CPU})
    uvicorn.run(
        bare_endpoint, port=port, http="httptools", loop="uvloop", lifespan="off", log_config=None, access_log=False
    )


if __name__ == "__main__":
    main()
