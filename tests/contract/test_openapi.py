"""docs/openapi.json is what the gateway serves."""

import sys
from pathlib import Path

import msgspec

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "tools"))

import generate_openapi  # noqa: E402 - found on the path that is added above


def test_the_committed_description_is_current() -> None:
    """Run `python tools/generate_openapi.py` where this fails."""
    assert generate_openapi.TARGET.read_bytes() == generate_openapi.render()


def test_every_operation_has_a_name_a_success_and_declared_problems() -> None:
    description = msgspec.json.decode(generate_openapi.render())

    operations = [operation for path in description["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations) == 17
    for operation in operations:
        statuses = operation["responses"].keys()
        assert any(status.startswith("2") for status in statuses)
        assert "503" in statuses
        for status, response in operation["responses"].items():
            expected = "application/json" if status.startswith("2") else "application/problem+json"
            assert list(response["content"]) == [expected]
