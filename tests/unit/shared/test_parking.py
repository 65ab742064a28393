"""What is parked keeps every byte and word that came, and none of it acts."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from pamqp.commands import Basic

from shared.messaging.parking import Parkable, parked_message


@dataclass
class Parked:
    """A message of a foreign queue."""

    body: bytes
    properties: Basic.Properties


def parkable(body: bytes = b"{}", **properties: Any) -> Parkable:  # noqa: ANN401 - as the library has them
    return Parked(body, Basic.Properties(**properties))


def test_headers_and_properties_are_kept_within_ours() -> None:
    moment = datetime(2026, 11, 27, tzinfo=UTC)
    headers = {"ce-id": "1", "CC": ["etlpay.ingest"], "x-death": [{"count": 1}], "n": None, "raw": b"\xff"}
    said = {"content_type": "text/plain", "user_id": "producer-shop", "message_id": "m", "timestamp": moment}

    message = parked_message(parkable(b"body", headers=headers, **said), reason="why", queue="etl-queue")

    assert (message.body, message.headers["etlpay-reason"], message.headers["etlpay-queue"]) == (
        b"body",
        "why",
        "etl-queue",
    )
    assert message.headers["etlpay-headers"] == headers
    assert message.headers["etlpay-properties"] == said
    assert {name.partition("-")[0] for name in message.headers} == {"etlpay"}
    assert (message.user_id, message.content_type) == (None, None)


@pytest.mark.parametrize("headers", [{"long": "x" * 130_000}, {"n" * 129: 1}])
def test_headers_that_no_frame_can_hold_beside_ours_are_left_out_and_that_is_said(headers: dict[str, Any]) -> None:
    message = parked_message(parkable(headers=headers), reason="why", queue="etl-queue")

    assert message.headers["etlpay-headers"] == "left out: too large"
    assert len(message.properties.marshal()) < 128 * 1024


def test_each_attempt_is_a_message_of_its_own() -> None:
    one, other = (parked_message(parkable(message_id="m"), reason="why", queue="q") for _ in range(2))

    assert one.message_id != other.message_id
