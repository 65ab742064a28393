"""An entry of the cache counts only as it was written, for what it was written, for its ledger and its time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.signing import Signer

KEY, EPOCH, SUBJECT = "a secret", "1764270000.000001/16390/16400/16384", "queued 1"
SIGNER = Signer(KEY, EPOCH)
UNTIL = 2_000_000_000


@given(st.binary(max_size=2_000))
def test_what_was_signed_is_read_as_it_was(value: bytes) -> None:
    assert SIGNER.verified(SUBJECT, SIGNER.sign(SUBJECT, value, expires_at=UNTIL), at=UNTIL - 1) == value


@given(st.binary(max_size=200))
def test_what_was_not_signed_is_nothing(entry: bytes) -> None:
    assert SIGNER.verified(SUBJECT, entry, at=0) is None


@given(st.binary(min_size=1, max_size=50), st.data())
def test_one_bit_changed_anywhere_makes_it_nothing(value: bytes, data: st.DataObject) -> None:
    entry = bytearray(SIGNER.sign(SUBJECT, value, expires_at=UNTIL))
    place = data.draw(st.integers(0, len(entry) * 8 - 1))

    entry[place // 8] ^= 1 << place % 8

    assert SIGNER.verified(SUBJECT, bytes(entry), at=0) is None


@pytest.mark.parametrize("subject", ["queued 2", "queued ", "record", ""])
def test_an_entry_says_nothing_of_another_subject(subject: str) -> None:
    entry = SIGNER.sign(SUBJECT, b"{}", expires_at=UNTIL)

    assert SIGNER.verified(subject, entry, at=0) is None


def test_an_entry_is_nothing_with_another_key_or_of_another_ledger() -> None:
    entry = SIGNER.sign(SUBJECT, b"{}", expires_at=UNTIL)

    assert Signer("another", EPOCH).verified(SUBJECT, entry, at=0) is None
    assert Signer(KEY, EPOCH + "1").verified(SUBJECT, entry, at=0) is None


def test_an_entry_is_nothing_from_the_moment_of_its_expiry() -> None:
    entry = SIGNER.sign(SUBJECT, b"{}", expires_at=UNTIL)

    assert SIGNER.verified(SUBJECT, entry, at=UNTIL - 1) == b"{}"
    assert SIGNER.verified(SUBJECT, entry, at=UNTIL) is None
