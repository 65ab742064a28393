"""A gRPC server with the limits that every EtlPay server has."""

import logging
from typing import Final

import grpc.aio
from pydantic import BaseModel, Field, NonNegativeInt, PositiveInt

MIB: Final = 1024 * 1024

_LIBRARY_LOG: Final = logging.getLogger("grpc._cython.cygrpc")


def _is_worth_telling(record: logging.LogRecord) -> bool:
    """Tell an error of ours from an answer that came after its caller had gone, which is the caller's business."""
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__name__ != "ExecuteBatchError"


class RpcServerSettings(BaseModel):
    """The bounds of a gRPC server."""

    rpc_message_bytes_max: PositiveInt = Field(8 * MIB, description="largest gRPC message, in and out")
    rpc_streams_per_connection_max: PositiveInt = Field(128, description="calls at once on one connection")
    rpc_calls_max: PositiveInt = Field(1_000, description="calls at once; beyond it one gets RESOURCE_EXHAUSTED")
    rpc_connection_age_seconds_max: PositiveInt = Field(60, description="how old a connection may get")
    rpc_connection_grace_seconds: NonNegativeInt = Field(20, description="how long its calls may still take then")


def build_server(settings: RpcServerSettings) -> grpc.aio.Server:
    """Return a server without services or ports; calls beyond the limit get RESOURCE_EXHAUSTED."""
    if _is_worth_telling not in _LIBRARY_LOG.filters:
        _LIBRARY_LOG.addFilter(_is_worth_telling)
    return grpc.aio.server(
        maximum_concurrent_rpcs=settings.rpc_calls_max,
        options=(
            # Two processes on one port would share calls without knowing; a second start must fail instead.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", settings.rpc_message_bytes_max),
            ("grpc.max_send_message_length", settings.rpc_message_bytes_max),
            ("grpc.max_concurrent_streams", settings.rpc_streams_per_connection_max),
            # Clients that balance by name only see new replicas when they connect anew.
            ("grpc.max_connection_age_ms", settings.rpc_connection_age_seconds_max * 1000),
            ("grpc.max_connection_age_grace_ms", settings.rpc_connection_grace_seconds * 1000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ),
    )
