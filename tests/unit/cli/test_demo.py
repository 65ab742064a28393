"""The demo: what it says when the gateway does not answer."""

import httpx2
import pytest

from etlpay_cli.addresses import Addresses
from etlpay_cli.demo import Demo
from etlpay_cli.errors import UNAVAILABLE, StackError


async def test_a_gateway_that_is_not_reached_is_said_in_one_sentence() -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused", request=request)

    found = Addresses(
        mode="local", http="http://gateway", grpc="gateway:1", amqp="", postgres="", redis="", inbox="/nowhere"
    )
    async with httpx2.AsyncClient(base_url=found.http, transport=httpx2.MockTransport(refuse)) as http:
        with pytest.raises(StackError, match=r"^the gateway cannot be reached \(ConnectError\)$") as raised:
            await Demo(found, http).sources()

    assert raised.value.exit_code == UNAVAILABLE
