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

# Calls that are being refused: the library counts each until it has ended.
_REFUSED_AT_ONCE: Final = 64

_LIBRARY_LOG: Final = logging.getLogger("grpc._cython.cygrpc")


def _is_ours(record: logging.LogRecord) -> bool:
    """Return False for the error of a response whose caller is gone."""
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

    The library counts calls of all kinds together, so its limit is the sum of the limits that the services keep.
    """
    if _is_ours not in _LIBRARY_LOG.filters:
        _LIBRARY_LOG.addFilter(_is_ours)
    return grpc.aio.server(
        maximum_concurrent_rpcs=settings.rpc_calls_max + settings.rpc_health_calls_max + _REFUSED_AT_ONCE,
        options=(
            # Otherwise a second process could listen on the same port and get half of the calls; it must fail instead.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", settings.rpc_message_bytes_max),
            ("grpc.max_send_message_length", settings.rpc_message_bytes_max),
            # How much of a stream is buffered before it is read, and how much of a socket is read at once. By default
            # the library buffers megabytes of both: 16 streams of 2 MB took 200 MB at their peak instead of 90.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", 64 * 1024),
            ("grpc.experimental.tcp_read_chunk_size", 8 * 1024),
            ("grpc.experimental.tcp_max_read_chunk_size", 64 * 1024),
            # A connection that is silent, or speaks another protocol, is closed.
            ("grpc.server_handshake_timeout_ms", settings.rpc_handshake_seconds_max * 1000),
            ("grpc.max_concurrent_streams", settings.rpc_streams_per_connection_max),
            # Clients that balance by name see new replicas only when they connect again.
            ("grpc.max_connection_age_ms", settings.rpc_connection_age_seconds_max * 1000),
            ("grpc.max_connection_age_grace_ms", settings.rpc_connection_grace_seconds * 1000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 2_000),
        ),
    )


def health_calls(
    settings: RpcServerSettings, *, share: float, may_stream: Callable[[Context], bool] = lambda _: True
) -> SideCalls:
    """Return the limits of health checking and reflection, of which one address may have `share`."""
    return SideCalls(
        calls_max=settings.rpc_health_calls_max,
        call_seconds_max=settings.rpc_health_call_seconds_max,
        stream_seconds_max=settings.rpc_watch_seconds_max,
        share=share,
        may_stream=may_stream,
    )


def listen(server: grpc.aio.Server, address: str, tls: TlsSettings) -> int:
    """Make a server listen, with TLS if there is a certificate; return the port.

    Raises:
        FatalError: the TLS files cannot be read. RuntimeError: the address cannot be used.
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
