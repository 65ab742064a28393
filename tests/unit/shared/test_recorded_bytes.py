"""Messages of the release before are read from the queues, and this release writes the same bytes.

They were recorded from that release, on 2026-11-27.
"""

import base64
import uuid
from datetime import UTC, datetime
from typing import Final

import msgspec

from shared.contracts.errors import Problem
from shared.contracts.event import Channel, Envelope
from shared.contracts.failure import failure_reason
from shared.contracts.receipt import Count, Progress, Receipt, Unconfirmed
from shared.contracts.result import Recorded, RecordStatus, ResultKind
from shared.rpc import processing_pb2 as pb
from shared.wire import decode_batch, decode_receipt, encode_batch, encode_receipt, read_results, result_message

MOMENT: Final = datetime(2026, 11, 27, 20, 45, 0, 123456, tzinfo=UTC)
RANDOM_ID: Final = uuid.UUID("01890a5d-ac96-774b-bcce-b302099a8057")

BATCH: Final = base64.b64decode(
    "Cm4KEFatx+JVsFMThPAfMUdVaPkSBHNob3AaB29yZGVyLTEgASoHcGF5bWVudDDA2sWrupDo//8BOMDa7ZGCqZgDQhBhcHBsaWNhdGlvbi9qc29u"
    "ShB7ImFtb3VudCI6IDEuMTB9YghzaG9wLWtleQo5ChABiQpdrJZ3S7zOswIJmoBXEgRzaG9wIAI4wNrtkYKpmANCEGFwcGxpY2F0aW9uL2pzb25K"
    "Ant9CmoKEE+QiG24YFajujFB1YAAfvMSBHJvd3MaCGZpbGU6MDoyIAM4wNrtkYKpmANCJ3RleHQvY3N2OyBoZWFkZXI9cHJlc2VudDsgZGVsaW1p"
    "dGVyPXRhYkoEaWQKN1IKcm93cy5jc3Y6MlgBCqUBChB3n5cpmQ1ecJFT6CQtFBCPEgVxdWV1ZRoJbWlkOm0tMTowIAQ4wNrtkYKpmANCRmFwcGxp"
    "Y2F0aW9uL3ZuZC5ldGxwYXkuZmFpbGVkOyByZWFzb249InRoZSBoZWFkZXIgc291cmNlIG11c3QgYmUgdGV4dCJKAf9SGHF1ZXVlOmV0bC1xdWV1"
    "ZT9zb3VyY2U9MVgBYg1wcm9kdWNlci1zaG9w"
)
EVENTS: Final = [
    Envelope(
        event_id=uuid.UUID("56adc7e2-55b0-5313-84f0-1f31475568f9"),
        source="shop",
        channel=Channel.HTTP,
        received_at=MOMENT,
        body=b'{"amount": 1.10}',
        idempotency_key="order-1",
        sender="shop-key",
        type="payment",
        occurred_at=datetime(1966, 9, 3, 20, 45, 0, 123456, tzinfo=UTC),
    ),
    Envelope(event_id=RANDOM_ID, source="shop", channel=Channel.GRPC, received_at=MOMENT, body=b"{}"),
    Envelope(
        event_id=uuid.UUID("4f90886d-b860-56a3-ba31-41d580007ef3"),
        source="rows",
        channel=Channel.FILE,
        received_at=MOMENT,
        body=b"id\n7",
        idempotency_key="file:0:2",
        derived=True,
        content_type="text/csv; header=present; delimiter=tab",
        origin="rows.csv:2",
    ),
    Envelope(
        event_id=uuid.UUID("779f9729-990d-5e70-9153-e8242d14108f"),
        source="queue",
        channel=Channel.QUEUE,
        received_at=MOMENT,
        body=b"\xff",
        idempotency_key="mid:m-1:0",
        derived=True,
        sender="producer-shop",
        content_type='application/vnd.etlpay.failed; reason="the header source must be text"',
        origin="queue:etl-queue?source=1",
    ),
]

OUTCOMES: Final = base64.b64decode(
    "ChEIARAHGAkgATDA2u2RgqmYAwoaCAIQBxgJIAEwwNrtkYKpmAM6B3siYSI6MX0KIQgDEAcYCSACKg4KAi9hEghpcyB3cm9uZzDA2u2RgqmYAw=="
)
RESULTS: Final = [
    Recorded(kind=kind, raw_event_id=7, record_id=9, status=status, processed_at=MOMENT, errors=errors, result=result)
    for kind, status, errors, result in (
        (ResultKind.STORED, RecordStatus.SUCCESS, (), None),
        (ResultKind.DUPLICATE, RecordStatus.SUCCESS, (), b'{"a":1}'),
        (ResultKind.CONFLICT, RecordStatus.FAILED, (Problem("/a", "is wrong"),), None),
    )
]

RECEIPT_BYTES: Final = base64.b64decode(
    "CgtncnBjLWluZ2VzdBIQAYkKXayWd0u8zrMCCZqAVxgDIhoKBHNob3AQAhi1uB4gASgCMAM4BEAFSAZQAiooCAIQwNrtkYKpmAMYwNrtkYKpmAMh"
    "AAAAAAAAFEAoATDA2u2RgqmYAzIdChABiQpdrJZ3S7zOswIJmoBXEMDa7ZGCqZgDGAI="
)
RECEIPT: Final = Receipt(
    service="grpc-ingest",
    instance=RANDOM_ID,
    number=3,
    counts=(Count("shop", Channel.GRPC, 498_741, (1, 2, 3, 4, 5, 6), 2),),
    unconfirmed=(Unconfirmed(RANDOM_ID, MOMENT, Channel.GRPC),),
    progress=Progress(
        channel=Channel.GRPC,
        began_at=MOMENT,
        open_since=MOMENT,
        taken_at=MOMENT,
        interval_seconds=5.0,
        closing=True,
    ),
)


def test_a_batch_of_events() -> None:
    assert decode_batch(BATCH) == EVENTS
    assert encode_batch(EVENTS) == BATCH
    assert [failure_reason(event.content_type) for event in EVENTS] == [None] * 3 + ["the header source must be text"]


def test_the_moment_of_a_file_is_one_more_field_after_those_of_the_release_before() -> None:
    [row] = [event for event in EVENTS if event.channel is Channel.FILE]

    assert row.file_at is None
    assert encode_batch([msgspec.structs.replace(row, file_at=MOMENT)]).endswith(
        b"X\x01h\xc0\xda\xed\x91\x82\xa9\x98\x03"
    )


def test_the_results_of_a_batch() -> None:
    assert read_results(pb.OutcomeBatch.FromString(OUTCOMES)) == RESULTS
    assert result_message(RESULTS).SerializeToString() == OUTCOMES


def test_a_receipt() -> None:
    assert decode_receipt(RECEIPT_BYTES) == RECEIPT
    assert encode_receipt(RECEIPT) == RECEIPT_BYTES


def test_a_problem_with_a_code_is_read_by_the_release_before_as_one_without() -> None:
    """The code is one more field: what stands before it is as it was."""
    old = pb.Problem(pointer="/a", detail="is missing").SerializeToString()

    new = pb.Problem(pointer="/a", detail="is missing", code="missing").SerializeToString()

    assert new.startswith(old)
    assert pb.Problem.FromString(old).code == ""
    assert msgspec.json.encode(Problem("/a", "is missing")) == b'{"pointer":"/a","detail":"is missing"}'
