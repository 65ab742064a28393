"""What a derived key was before such keys had a name space of their own."""

import pytest

from processor.ledger.former_keys import former_key

DIGEST = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("key", "former"),
    [
        (f"file:{DIGEST}:17", f"file:{DIGEST}:17"),
        ("mid:m-1:0123456789abcdef", "mid:m-1:0123456789abcdef"),
        ("mid:m-1:0123456789abcdef#3", "mid:m-1:0123456789abcdef#3"),
        ("item:order #12#0", "order #12#0"),
        ("sha256:" + DIGEST * 2, "sha256:" + DIGEST * 2),
        (f"row:0123456789abcdef:{DIGEST}:2", f"row:{DIGEST}:2"),
        (f"row:0123456789abcdef:18f3a2:{DIGEST}:2", None),
        ("item-sha256:" + DIGEST, None),
        ("source:a:b", None),
    ],
)
def test_a_derived_key_had_this_form_before(key: str, former: str | None) -> None:
    assert former_key(key) == former
