"""What tests need to stand on: servers, stacks, events."""

import pytest

# What a check compared stands in the report only when pytest may rewrite the module that holds it.
pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in ("calls", "servers", "siblings", "stack", "witness")))
