"""One request: what a surprise leaves behind, before an answer has begun and after."""

import pytest
from starlette.types import Message

from api_gateway.http.headers import read_headers
from api_gateway.http.request import BodyLimits, RequestStream
from api_gateway.schemas import HttpResponse
from shared.runtime.timeouts import Timeouts

LIMITS = BodyLimits(bytes_max=1_000, pause_seconds_max=1, seconds_max=1)


async def receive_nothing() -> Message:
    """Return a request without a body."""
    return {"type": "http.request", "body": b"", "more_body": False}


@pytest.mark.parametrize(("answered", "statuses"), [(False, [500]), (True, [201])])
async def test_a_surprise_is_answered_unless_an_answer_has_begun(answered: bool, statuses: list[int]) -> None:  # noqa: FBT001 - a case
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    request = RequestStream(read_headers([]), receive_nothing, send, limits=LIMITS, timeouts=Timeouts())
    if answered:
        await request.respond(HttpResponse(201, b"{}"))

    await request.fail()

    assert [message["status"] for message in sent if message["type"] == "http.response.start"] == statuses
