"""Stacks that start side by side never choose the same port, though nobody listens on it yet."""

from contextlib import ExitStack

import pytest

from etlpay_cli.ports import PortTakenError, choose_ports, claiming
from support.servers import free_port


def test_a_port_that_one_stack_chose_is_taken_for_the_others_until_it_ends() -> None:
    wished = {"http": free_port(), "grpc": free_port()}

    with ExitStack() as first, ExitStack() as second:
        chosen = choose_ports({}, {}, claiming(first), wished)
        assert chosen == wished

        assert set(choose_ports({}, {}, claiming(second), wished).values()).isdisjoint(chosen.values())
        with pytest.raises(PortTakenError):
            choose_ports({"http": wished["http"]}, {}, claiming(second), wished)

    with ExitStack() as third:
        assert choose_ports({}, {}, claiming(third), wished) == wished
