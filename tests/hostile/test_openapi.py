"""The running gateway against its own description: whatever fits it, and whatever does not, is answered as it says."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from support.stack import Stack

Operation = schemathesis.APIOperation[Any, Any, Any, Any]
PROBLEM = "application/problem+json"
OPERATIONS = (
    "POST /api/ingest",
    "POST /api/ingest/batch",
    "GET /api/sources",
    "GET /api/processed-records",
    "GET /api/processed-records/{id}",
    "GET /api/events/{event_id}",
    "GET /api/audit",
    "GET /api/pipelines",
    "POST /api/pipelines/try",
    "GET /api/pipelines/{name}",
    "GET /api/pipelines/{name}/versions",
    "GET /api/pipelines/{name}/versions/{version}",
    "GET /api/tables/{name}",
    "GET /api/feed",
    "GET /api/totals",
    "GET /api/totals/{name}",
    "GET /api/drift",
)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def operations(stack: Stack) -> dict[str, Operation]:
    """What the gateway says that it can do."""
    schema = schemathesis.openapi.from_url(f"{stack.http}/openapi.json")
    found = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    return {operation.label: operation for operation in found}


def test_every_operation_is_tried(operations: dict[str, Operation]) -> None:
    assert sorted(operations) == sorted(OPERATIONS)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["fitting", "unfitting"])
@pytest.mark.parametrize("label", OPERATIONS)
def test_an_operation(operations: dict[str, Operation], label: str, mode: GenerationMode) -> None:
    """No fault of ours, no status and no body that is not described, and every error a problem document."""
    cases = operations[label].as_strategy(generation_mode=mode)

    @seed(8)
    @settings(
        max_examples=60,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        case = data.draw(cases)
        answer = case.call()
        case.validate_response(answer, checks=CHECKS)
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == [PROBLEM]

    check()
