"""A running system under hostile input, and the witness that it does not mind."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from support.hostile import CANARY
from support.stack import Stack
from support.witness import Witness


@pytest.fixture(scope="session")
def stack(local_stack: Stack) -> Stack:
    """The system as processes of this machine, whose memory and logs can be looked at."""
    return local_stack


@pytest_asyncio.fixture(autouse=True, scope="module", loop_scope="module")
async def unharmed(stack: Stack) -> AsyncIterator[None]:
    """Fail the group of tests that harmed a service: the next good event lands at once, and the witness saw nothing."""
    witness = Witness(stack)
    yield
    async with stack.client() as client:
        answer = await client.post("/api/ingest", json={"source_name": "after-hostile-input", "payload": {"good": 1}})
    assert answer.status_code == 201
    witness.check(CANARY.encode())
