"""Counters of the gRPC door: received = stored + duplicate + conflict + refused + queued + unknown."""

from collections.abc import Sequence
from datetime import datetime

from grpc_ingest.mapping import Answer
from shared.contracts.event import Channel, source_problem
from shared.contracts.receipt import UNREADABLE_SOURCE, Answered, Fate, fate_of
from shared.counters import count_answers
from shared.rpc import etlpay_pb2 as pb


def count(requests: Sequence[pb.IngestRequest], moments: Sequence[datetime], answers: Sequence[Answer]) -> None:
    """Count what became of the requests of one call, each of which came in at its moment."""
    fates = map(fate_of, answers)
    count_answers(
        Channel.GRPC,
        [
            Answered(_source(request.source_name, fate), moment, fate)
            for request, moment, fate in zip(requests, moments, fates, strict=True)
        ],
    )


def _source(name: str, fate: Fate) -> str:
    """Return the source, where the request named one; what was not refused did."""
    return UNREADABLE_SOURCE if fate is Fate.REFUSED and source_problem(name) else name
