"""The gateway over fakes, without a socket."""

import pytest

from support.gateway import GatewayMaker, run_gateway


@pytest.fixture
def gateway() -> GatewayMaker:
    """Return what makes gateways; its arguments are settings."""
    return run_gateway
