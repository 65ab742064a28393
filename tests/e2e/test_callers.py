"""The processor of a running stack serves the stack's own services, and no other process that can reach it."""

import msgspec
import pytest

from shared.contracts.errors import UnavailableError
from shared.contracts.event import Channel
from shared.settings import SubmissionSettings
from shared.submit.processing import GrpcProcessing
from support.events import event
from support.siblings import environment_of
from support.stack import Stack


async def hand_over(stack: Stack, token: str, source: str, channel: Channel) -> None:
    """Send an event as a service with this token would."""
    port = environment_of(stack, "processor")["ETLPAY_PROCESSING_PORT"]
    settings = {"processor_target": f"127.0.0.1:{port}", "processor_token": token}
    client = GrpcProcessing(SubmissionSettings.model_validate(settings))
    try:
        await client.process([msgspec.structs.replace(event(key="a", source=source), channel=channel)])
    finally:
        await client.close()


def token_of(stack: Stack, service: str) -> str:
    return (stack.root / ".etlpay" / "secrets" / service / "processor_token").read_text()


@pytest.mark.parametrize("who", ["nobody", "a stranger", "grpc-ingest"])
async def test_who_is_not_the_gateway_hands_over_no_event_of_http(local_stack: Stack, source: str, who: str) -> None:
    tokens = {"nobody": "", "a stranger": "made up", "grpc-ingest": token_of(local_stack, "grpc-ingest")}

    with pytest.raises(UnavailableError):
        await hand_over(local_stack, tokens[who], source, Channel.HTTP)

    assert await local_stack.fetch("SELECT 1 FROM events WHERE source = $1", source) == []


@pytest.mark.parametrize(
    ("service", "channel"),
    [
        ("api-gateway", Channel.HTTP),
        ("grpc-ingest", Channel.GRPC),
        ("operator", Channel.HTTP),
        ("operator", Channel.GRPC),
    ],
)
async def test_a_service_with_its_token_hands_over_events_of_its_channel(
    local_stack: Stack, source: str, service: str, channel: Channel
) -> None:
    await hand_over(local_stack, token_of(local_stack, service), source, channel)

    await local_stack.events_of(source, count=1)
