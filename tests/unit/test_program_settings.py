"""The settings of the real programs: each is read, and one that was renamed is still recognised."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from api_gateway.settings import GatewaySettings
from etlpay_cli.settings import CliSettings
from file_watcher.settings import Settings as FileWatcherSettings
from grpc_ingest.settings import Settings as GrpcIngestSettings
from processor.settings import MigrationSettings, ProcessorSettings
from queue_consumer.settings import Settings as QueueConsumerSettings
from shared.settings import unknown_variables

ROOT = Path(__file__).resolve().parents[2]
# Prints the files of all modules that a program imports.
IMPORTED = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
for module in list(sys.modules.values()):
    print(getattr(module, "__file__", ""))
"""


def names(settings: type[BaseModel]) -> Iterator[str]:
    """Yield the names of all settings, of a group those of its members."""
    for name, field in settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from names(field.annotation)
        yield name


@pytest.mark.parametrize(
    ("program", "settings"),
    [
        ("api_gateway.__main__ api_gateway.service", GatewaySettings),
        ("grpc_ingest.__main__", GrpcIngestSettings),
        ("file_watcher.__main__", FileWatcherSettings),
        ("queue_consumer.__main__", QueueConsumerSettings),
        ("processor.__main__", ProcessorSettings),
        ("processor.migrate", MigrationSettings),
        ("etlpay_cli.__main__", CliSettings),
    ],
)
def test_every_setting_of_a_program_is_read_by_its_code(program: str, settings: type[BaseModel]) -> None:
    printed = subprocess.run(
        (sys.executable, "-c", IMPORTED, *program.split()), capture_output=True, text=True, check=True
    ).stdout
    modules = [Path(line) for line in printed.splitlines() if line.startswith(str(ROOT)) and "/.venv/" not in line]
    nodes = (node for module in modules for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))))
    read = {node.attr for node in nodes if isinstance(node, ast.Attribute)}

    assert len(modules) > 5
    assert set(names(settings)) - read == set()


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ("ETLPAY_SUBMISSION__BATCH_EVENTS_MAX", "ETLPAY_BATCH__EVENTS_MAX"),
        ("ETLPAY_BATCH__BATCH_BYTES_MAX", "ETLPAY_BATCH__BYTES_MAX"),
        ("ETLPAY_BATCHING__BATCHES_IN_FLIGHT_MAX", "ETLPAY_BATCH__IN_FLIGHT_MAX"),
        ("ETLPAY_BATCH_BYTES_MAX", "ETLPAY_HTTP_BATCH_REQUEST_BYTES_MAX"),
        ("ETLPAY_BATCH_SECONDS_MAX", "ETLPAY_HTTP_BATCH_REQUEST_SECONDS_MAX"),
    ],
)
def test_a_former_name_is_reported_with_the_name_of_now(monkeypatch: pytest.MonkeyPatch, former: str, now: str) -> None:
    monkeypatch.setenv(former, "1")

    ((name, similar),) = unknown_variables(GatewaySettings)

    assert name == former
    assert now in similar
