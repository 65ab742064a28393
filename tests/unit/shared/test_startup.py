"""A program tells in its log, as JSON, what is wrong with its settings; it repeats no value."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

PROGRAM = """
from shared.runtime.startup import load_settings
from shared.settings import AmqpSettings, ServiceSettings

class Settings(ServiceSettings, AmqpSettings):
    pass

settings = load_settings(Settings, service="test")
print('{"level_read": "%s"}' % settings.log_level)
"""


def start(folder: Path, **environment: str) -> tuple[int, list[dict[str, Any]]]:
    """Return how a program that only reads its settings ends, and the lines that it wrote."""
    done = subprocess.run(
        (sys.executable, "-c", PROGRAM), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.returncode, [msgspec.json.decode(line) for line in done.stdout.splitlines()]


def test_an_unknown_setting_is_a_warning_in_the_configured_log(tmp_path: Path) -> None:
    code, lines = start(tmp_path, ETLPAY_LOG_LEVEL="WARNING", ETLPAY_AMPQ_URL="amqp://s3cret@x/")

    assert code == 0
    warning, end = lines
    assert {
        "level": "warning",
        "service": "test",
        "setting": "ETLPAY_AMPQ_URL",
        "similar": ["ETLPAY_AMQP_URL"],
    }.items() <= (warning.items())
    assert "s3cret" not in str(warning)
    assert end == {"level_read": "warning"}


def test_a_setting_that_cannot_be_used_ends_the_start_with_its_name(tmp_path: Path) -> None:
    code, lines = start(tmp_path, ETLPAY_OPS_PORT="p4ssw0rd", ETLPAY_LOG_LEVEL="loud")

    usage = 2
    assert code == usage
    (line,) = lines
    assert line["level"] == "error"
    assert set(line["problems"]) == {"ops_port", "log_level"}
    assert "p4ssw0rd" not in str(line)


def test_a_secret_that_cannot_be_read_ends_the_start_with_its_name(tmp_path: Path) -> None:
    code, lines = start(tmp_path, ETLPAY_AMQP_PASSWORD_FILE=str(tmp_path / "missing"))

    usage = 2
    assert code == usage
    assert "ETLPAY_AMQP_PASSWORD_FILE" in lines[0]["problems"]["settings"]
