"""Health checking without a socket: what it says, and what callers may take of it."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2 as pb

from shared.runtime.rpc_health import Context, Health, SideCalls, peer_of
from support.calls import FakeContext

SERVING, NOT_SERVING = pb.HealthCheckResponse.SERVING, pb.HealthCheckResponse.NOT_SERVING


class AbortedError(Exception):
    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__(code)
        self.code = code


class HealthContext(FakeContext):
    """A call's context; what is written to it are answers of health checking."""

    async def abort(self, code: grpc.StatusCode, *_: object) -> None:
        raise AbortedError(code)


def asking(service: str = "") -> Any:  # noqa: ANN401 - a fake of a call's context
    return HealthContext([pb.HealthCheckRequest(service=service).SerializeToString()])


def health(**limits: Any) -> Health:  # noqa: ANN401 - limits of any type
    bounds: dict[str, Any] = {"calls_max": 4, "call_seconds_max": 5, "stream_seconds_max": 5, "share": 0.75}
    return Health(["a.Service"], SideCalls(**(bounds | limits)))


async def code_of(call: Awaitable[object]) -> grpc.StatusCode:
    with pytest.raises(AbortedError) as aborted:
        await call
    return aborted.value.code


@pytest.mark.parametrize("service", ["", "a.Service"])
async def test_a_check_says_what_was_set_last(service: str) -> None:
    told = health()

    first = await told.check(None, asking(service))
    told.set(serving=False)
    second = await told.check(None, asking(service))

    assert (first.status, second.status) == (SERVING, NOT_SERVING)


async def test_an_unknown_service_is_not_found_and_a_watcher_told_so() -> None:
    context = asking("b.Service")
    told = health(stream_seconds_max=0.05)

    assert await code_of(told.check(None, asking("b.Service"))) is grpc.StatusCode.NOT_FOUND
    await told.watch(None, context)

    assert [answer.status for answer in context.written] == [pb.HealthCheckResponse.SERVICE_UNKNOWN]


async def test_a_watcher_is_told_of_each_change_and_its_stream_ends_well() -> None:
    context = asking()
    told = health(stream_seconds_max=0.2)
    watching = asyncio.ensure_future(told.watch(None, context))
    await asyncio.sleep(0.05)

    told.set(serving=True)
    told.close()
    told.set(serving=True)
    await watching

    assert [answer.status for answer in context.written] == [SERVING, NOT_SERVING]


@pytest.mark.parametrize(
    ("request_bytes", "code"),
    [
        ([b"\xff\xff"], grpc.StatusCode.INVALID_ARGUMENT),
        ([b"\x0a" + b"x" * 5_000], grpc.StatusCode.INVALID_ARGUMENT),
        ([], grpc.StatusCode.UNAVAILABLE),
    ],
    ids=["garbage", "large", "none"],
)
@pytest.mark.parametrize("method", ["check", "watch"])
async def test_a_call_without_a_request_ends(request_bytes: list[bytes], code: grpc.StatusCode, method: str) -> None:
    context: Any = HealthContext(request_bytes)

    assert await code_of(getattr(health(call_seconds_max=0.05), method)(None, context)) is code


async def test_watchers_of_one_address_leave_room_for_another() -> None:
    told = health()
    other = asking()
    other.address = "ipv6:%5B2001:db8::1%5D:50000"
    async with asyncio.TaskGroup() as group:
        watching = [group.create_task(told.watch(None, asking())) for _ in range(3)]
        await asyncio.sleep(0.01)
        beyond = await code_of(told.watch(None, asking()))
        response = await told.check(None, other)
        for task in watching:
            task.cancel()

    assert beyond is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert response.status == SERVING


async def test_a_stream_may_need_a_key_where_a_check_does_not() -> None:
    told = health(may_stream=lambda _: False)

    assert await code_of(told.watch(None, asking())) is grpc.StatusCode.UNAUTHENTICATED
    assert (await told.check(None, asking())).status == SERVING


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("ipv4:192.0.2.1:50000", "192.0.2.1"),
        ("ipv6:%5B2001:db8:1:2:3::1%5D:50000", "2001:db8:1:2::/64"),
        ("ipv6:[::1]:50000", "::/64"),
        ("unix:", "unix"),
    ],
)
def test_callers_are_told_apart_by_their_address(peer: str, network: str) -> None:
    context: Any = FakeContext()
    context.address = peer
    found: Context = context

    assert peer_of(found) == network
