"""Server reflection, for tools such as grpcurl, with limits of its own."""

from collections.abc import AsyncIterator, Sequence
from typing import Final

import grpc
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection, reflection_pb2

from shared.runtime.rpc_health import Context, RpcAbort, SideCalls

SERVICE_NAME: Final = reflection.SERVICE_NAME


def reflection_handler(services: Sequence[str], calls: SideCalls) -> grpc.GenericRpcHandler:
    """Return the handler to add to a server. `calls` limits its streams, and says who may open one."""
    library = reflection.aio.ReflectionServicer((*services, SERVICE_NAME))

    async def serve(_requests: object, context: Context) -> None:
        async def requests() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
            while (request := await calls.read(context)) is not None:
                yield _parse(request)

        async def answer() -> None:
            async for response in library.ServerReflectionInfo(requests(), context):
                await context.write(response)

        await calls.serve_stream(context, answer)

    return grpc.method_handlers_generic_handler(
        SERVICE_NAME,
        {
            "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
                serve, response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString
            )
        },
    )


def _parse(request: bytes) -> reflection_pb2.ServerReflectionRequest:
    try:
        return reflection_pb2.ServerReflectionRequest.FromString(request)
    except DecodeError:
        raise RpcAbort(grpc.StatusCode.INVALID_ARGUMENT, "must be a ServerReflectionRequest") from None
