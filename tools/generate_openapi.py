"""Writes docs/openapi.json: the description of the HTTP API, as the gateway serves it at /openapi.json."""

import asyncio
from pathlib import Path
from typing import Final

import msgspec

from api_gateway.app import build_app, query_routers
from api_gateway.queries.ledger import Ledger, open_reader
from api_gateway.settings import GatewaySettings
from api_gateway.trials.process import Trials
from shared.auth.authenticator import Access
from shared.cache import Cache
from shared.runtime.readiness import Readiness
from shared.submit.submitter import Submitter
from shared.testing.processing import FakeProcessing
from shared.testing.publisher import FakePublisher

TARGET: Final = Path(__file__).resolve().parents[1] / "docs" / "openapi.json"


def render() -> bytes:
    """Return the file's content. Nothing connects."""
    settings = GatewaySettings.model_construct()
    reader = asyncio.run(open_reader(settings))
    cache = Cache(None, seconds=settings.cache_seconds)
    app = build_app(
        submitter=Submitter(FakeProcessing(), FakePublisher(), limits=settings.batch, fallback_to_queue=True),
        cache=cache,
        queries=query_routers(Ledger(reader, page_bytes_max=0, seconds_max=0), FakePublisher(), cache, settings),
        trials=Trials(),
        readiness=Readiness(),
        access=Access(None),
        settings=settings,
    )
    return msgspec.json.format(msgspec.json.encode(app.framework.openapi()), indent=2) + b"\n"


if __name__ == "__main__":
    TARGET.write_bytes(render())
