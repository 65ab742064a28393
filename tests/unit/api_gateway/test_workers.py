"""Workers: the settings of each, and its CPU."""

import os
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from api_gateway.http.workers import _environment, pin_to_cpu
from api_gateway.settings import GatewaySettings
from shared.contracts.errors import FatalError


def settings(**given: object) -> GatewaySettings:
    return GatewaySettings.model_validate(
        {"amqp_url": "amqp://127.0.0.1/", "postgres_url": "postgresql://127.0.0.1/etlpay", **given}
    )


def cpus_after(given: GatewaySettings) -> set[int]:
    """Return the CPUs of a thread that kept to its settings; the test's own thread keeps all of its."""

    def keep() -> set[int]:
        pin_to_cpu(given)
        return os.sched_getaffinity(0)

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(keep).result()


@pytest.mark.parametrize("cpu", [min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))])
def test_a_gateway_keeps_to_its_cpu(cpu: int) -> None:
    assert cpus_after(settings(http_cpu=cpu)) == {cpu}


def test_a_gateway_runs_on_any_cpu_where_none_is_given() -> None:
    assert cpus_after(settings()) == os.sched_getaffinity(0)


def test_a_cpu_that_is_not_there_is_told() -> None:
    with pytest.raises(FatalError, match="CPU 100000"):
        cpus_after(settings(http_cpu=100_000))


def test_workers_have_ports_and_cpus_one_after_another() -> None:
    given = settings(http_workers=2, http_cpu=1, ops_port=9_000)
    with socket.socket() as listener:
        environments = [_environment(given, number, listener) for number in range(2)]
        inherited = str(listener.fileno())

    names = ("ETLPAY_HTTP_SOCKET", "ETLPAY_OPS_PORT", "ETLPAY_HTTP_CPU")
    assert [tuple(each[name] for name in names) for each in environments] == [
        (inherited, "9000", "1"),
        (inherited, "9001", "2"),
    ]


def test_workers_are_told_nothing_that_was_not_asked_for() -> None:
    with socket.socket() as listener:
        environments = _environment(settings(http_workers=2), 1, listener)

    assert "ETLPAY_OPS_PORT" not in environments
    assert "ETLPAY_HTTP_CPU" not in environments
