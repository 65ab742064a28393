"""Who may hand events to the processor: who has a token, and, where certificates are asked for, who has one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from processor.inputs.callers import Caller, Callers
from shared.contracts.errors import RetryableError, UnavailableError
from shared.contracts.event import Channel
from shared.settings import TlsSettings
from support.events import event
from support.replica import Replica, calling
from support.servers import free_port
from support.tls import Certificates

TOKEN = "the gateway's own"  # noqa: S105 - of a service that lives as long as its test


@asynccontextmanager
async def serving(callers: Callers | None = None, tls: TlsSettings | None = None) -> AsyncIterator[Replica]:
    replica = Replica(free_port(), callers, tls)
    await replica.start()
    yield replica
    await replica.drain()


def gateway_only() -> Callers:
    return Callers([(Caller("api-gateway", Channel.HTTP), TOKEN), (Caller("grpc-ingest", Channel.GRPC), "")])


@pytest.mark.parametrize("token", ["", "another", TOKEN + " ", "x" * 4_000])
async def test_who_has_no_token_is_refused_before_anything_is_read(token: str) -> None:
    async with serving(gateway_only()) as replica, calling(replica, processor_token=token) as client:
        for _ in range(3):
            with pytest.raises(UnavailableError):
                await client.process([event(key="a")])

        assert not client.connected

    assert replica.ledger.events == []


async def test_who_has_a_token_is_asked_for_it_once_a_stream() -> None:
    async with serving(gateway_only()) as replica, calling(replica, processor_token=TOKEN) as client:
        for number in range(5):
            await client.process([event(key=str(number))])

        assert client.connected

    assert (len(replica.ledger.events), replica.streams) == (5, 1)


async def test_a_service_sends_events_of_its_own_channel_only() -> None:
    foreign = msgspec.structs.replace(event(key="b"), channel=Channel.GRPC)
    async with serving(gateway_only()) as replica, calling(replica, processor_token=TOKEN) as client:
        with pytest.raises(UnavailableError):
            await client.process([event(key="a"), foreign])
        await client.process([event(key="c")])

    assert [each.idempotency_key for each in replica.ledger.events] == ["c"]


async def test_with_certificates_each_side_knows_the_other(tmp_path: Path) -> None:
    known = Certificates(tmp_path)
    client_files = {
        "processor_ca_file": str(known.ca),
        "processor_cert_file": str(known.client_cert),
        "processor_key_file": str(known.client_key),
    }
    async with (
        serving(tls=TlsSettings(**known.settings(clients=True))) as replica,
        calling(replica, processor_target=f"127.0.0.1:{replica.port}", **client_files) as client,
    ):
        await client.process([event(key="a")])

    assert [each.idempotency_key for each in replica.ledger.events] == ["a"]


@pytest.mark.parametrize("missing", ["certificate", "authority", "tls"])
async def test_who_cannot_prove_who_it_is_hands_nothing_over(tmp_path: Path, missing: str) -> None:
    known, other = Certificates(tmp_path), Certificates(make_folder(tmp_path / "other"))
    mine, trusted = (known.client_cert, known.client_key), known.ca
    files = {"processor_ca_file": str(other.ca if missing == "authority" else trusted)}
    if missing != "certificate":
        files |= {"processor_cert_file": str(mine[0]), "processor_key_file": str(mine[1])}
    if missing == "tls":
        files = {}
    async with (
        serving(tls=TlsSettings(**known.settings(clients=True))) as replica,
        calling(replica, processor_target=f"127.0.0.1:{replica.port}", **files) as client,
    ):
        with pytest.raises(RetryableError):
            await client.process([event(key="a")])

        assert not client.connected

    assert replica.ledger.events == []


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path
