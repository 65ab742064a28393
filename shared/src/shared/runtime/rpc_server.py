"""A gRPC server with the limits that every EtlPay server has."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

import grpc
import grpc.aio
from pydantic import BaseModel, Field, NonNegativeInt, PositiveFloat, PositiveInt

from shared.contracts.errors import FatalError
from shared.runtime.rpc_health import Context, SideCalls
from shared.settings import TlsSettings

MIB: Final = 1024 * 1024

# Calls that are being refused: each is one to the library until it has ended.
_REFUSED_AT_ONCE: Final = 64

_LIBRARY_LOG: Final = logging.getLogger("grpc._cython.cygrpc")


def _is_worth_telling(record: logging.LogRecord) -> bool:
    """Tell an error of ours from an answer that came after its caller had gone, which is the caller's business."""
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__name__ != "ExecuteBatchError"


class RpcServerSettings(BaseModel):
    """The limits of a gRPC server."""

    rpc_message_bytes_max: PositiveInt = Field(8 * MIB, description="largest gRPC message, in and out")
    rpc_streams_per_connection_max: PositiveInt = Field(128, description="calls at once on one connection")
    rpc_calls_max: PositiveInt = Field(256, description="calls at once; beyond it one gets RESOURCE_EXHAUSTED")
    rpc_health_calls_max: PositiveInt = Field(
        16, description="calls of health checking and of reflection at once, beside the others"
    )
    rpc_health_call_seconds_max: PositiveFloat = Field(5.0, description="how long the request of such a call may take")
    rpc_watch_seconds_max: PositiveFloat = Field(
        60.0, description="how long a stream of health checking or reflection lasts; then it may be opened again"
    )
    rpc_handshake_seconds_max: PositiveInt = Field(5, description="how long a new connection may take to speak gRPC")
    rpc_connection_age_seconds_max: PositiveInt = Field(60, description="how old a connection may get")
    rpc_connection_grace_seconds: NonNegativeInt = Field(20, description="how long its calls may still take then")


def build_server(settings: RpcServerSettings) -> grpc.aio.Server:
    """Return a server without services or ports; calls beyond the limit get RESOURCE_EXHAUSTED.

    The library counts calls of all kinds together, so its limit is beyond those of the kinds, which the services keep.
    """
    if _is_worth_telling not in _LIBRARY_LOG.filters:
        _LIBRARY_LOG.addFilter(_is_worth_telling)
    return grpc.aio.server(
        maximum_concurrent_rpcs=settings.rpc_calls_max + settings.rpc_health_calls_max + _REFUSED_AT_ONCE,
        options=(
            # Two processes on one port would share calls without knowing; a second start must fail instead.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", settings.rpc_message_bytes_max),
            ("grpc.max_send_message_length", settings.rpc_message_bytes_max),
            # What may come on a stream before anybody reads it, and in one piece from a socket. Left to itself the
            # library gives a fast one megabytes of both: 16 streams of 2 MB took 200 MB at their peak, and take 90.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", 64 * 1024),
            ("grpc.experimental.tcp_read_chunk_size", 8 * 1024),
            ("grpc.experimental.tcp_max_read_chunk_size", 64 * 1024),
            # Who connects and says nothing, or speaks something else, is closed.
            ("grpc.server_handshake_timeout_ms", settings.rpc_handshake_seconds_max * 1000),
            ("grpc.max_concurrent_streams", settings.rpc_streams_per_connection_max),
            # Clients that balance by name only see new replicas when they connect anew.
            ("grpc.max_connection_age_ms", settings.rpc_connection_age_seconds_max * 1000),
            ("grpc.max_connection_age_grace_ms", settings.rpc_connection_grace_seconds * 1000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 2_000),
        ),
    )


def health_calls(
    settings: RpcServerSettings, *, share: float, may_stream: Callable[[Context], bool] = lambda _: True
) -> SideCalls:
    """Return the bounds of health checking and reflection, of which those from one address may have `share`."""
    return SideCalls(
        calls_max=settings.rpc_health_calls_max,
        call_seconds_max=settings.rpc_health_call_seconds_max,
        stream_seconds_max=settings.rpc_watch_seconds_max,
        share=share,
        may_stream=may_stream,
    )


def listen(server: grpc.aio.Server, address: str, tls: TlsSettings) -> int:
    """Let a server listen, with TLS where there is a certificate; return the port.

    Raises:
        FatalError: the files cannot be used. RuntimeError: the address cannot be had.
    """
    if not tls.tls_cert_file:
        return server.add_insecure_port(address)
    try:
        key, chain = Path(tls.tls_key_file).read_bytes(), Path(tls.tls_cert_file).read_bytes()
        clients = Path(tls.tls_client_ca_file).read_bytes() if tls.tls_client_ca_file else None
    except OSError as error:
        raise FatalError(f"the TLS files cannot be read ({type(error).__name__})") from error
    credentials = grpc.ssl_server_credentials([(key, chain)], clients, require_client_auth=clients is not None)
    return server.add_secure_port(address, credentials)
