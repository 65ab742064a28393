"""A stack listens where it did before, else where it is usual, else where it is free."""

import contextlib
from collections.abc import Callable, Iterable

import pytest

from etlpay_cli.ports import PREFERRED, PortTakenError, choose_ports


def taking(taken: Iterable[int] = ()) -> Callable[[contextlib.ExitStack, int], bool]:
    """A machine on which these ports are taken. A unit test opens no socket."""
    gone = set(taken)

    def hold(_: contextlib.ExitStack, port: int) -> bool:
        free = port not in gone
        gone.add(port)
        return free

    return hold


def test_the_usual_ports_are_chosen_where_they_are_free() -> None:
    chosen = choose_ports({}, {}, taking())

    usual = {name: port for name, port in PREFERRED.items() if port}
    assert usual == {name: chosen[name] for name in usual}


def test_every_name_gets_a_port_and_none_is_given_twice() -> None:
    taken = {8000, 50051, 5672}

    chosen = choose_ports({}, {}, taking(taken))

    assert set(PREFERRED) == set(chosen)
    assert len(PREFERRED) == len(set(chosen.values()))
    assert not taken & set(chosen.values())


def test_a_free_port_lies_below_the_range_of_outgoing_connections() -> None:
    chosen = choose_ports({}, {}, taking({8000}))

    assert 20_000 <= chosen["http"] < 32_768


def test_the_ports_of_the_run_before_come_first() -> None:
    previous = {name: 21_000 + number for number, name in enumerate(PREFERRED)}

    assert previous == choose_ports({}, previous, taking())


def test_a_port_that_was_asked_for_beats_the_one_of_before_and_the_usual_one_of_another() -> None:
    chosen = choose_ports({"redis": 8000}, {"redis": 20_001}, taking())

    assert chosen["redis"] == 8000
    assert chosen["http"] != 8000


def test_a_port_that_was_asked_for_and_is_taken_is_refused_by_name() -> None:
    with pytest.raises(PortTakenError, match=r"8123.*http"):
        choose_ports({"http": 8123}, {}, taking({8123}))
