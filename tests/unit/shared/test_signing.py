"""An entry of the cache is ours only as it was written, where it was written, for its ledger and its time."""

from hypothesis import given
from hypothesis import strategies as st

from shared.signing import Signer

KEY, EPOCH, NAME = "a secret", "1764270000.000001/16390/16400/16384", "etlpay:record:1"
SIGNER = Signer(KEY, EPOCH)
UNTIL = 2_000_000_000


@given(st.binary(max_size=2_000))
def test_what_was_signed_is_read_as_it_was(value: bytes) -> None:
    assert SIGNER.verified(NAME, SIGNER.sign(NAME, value, expires_at=UNTIL), at=UNTIL - 1) == value


@given(st.binary(max_size=200))
def test_what_was_not_signed_is_nothing(entry: bytes) -> None:
    assert SIGNER.verified(NAME, entry, at=0) is None


@given(st.binary(min_size=1, max_size=50), st.data())
def test_one_bit_changed_anywhere_makes_it_nothing(value: bytes, data: st.DataObject) -> None:
    entry = bytearray(SIGNER.sign(NAME, value, expires_at=UNTIL))
    place = data.draw(st.integers(0, len(entry) * 8 - 1))

    entry[place // 8] ^= 1 << place % 8

    assert SIGNER.verified(NAME, bytes(entry), at=0) is None


def test_an_entry_is_nothing_under_another_name() -> None:
    entry = SIGNER.sign(NAME, b"{}", expires_at=UNTIL)

    assert [SIGNER.verified(name, entry, at=0) for name in ("etlpay:record:2", "etlpay:record:", "", f"{NAME}\0")] == [
        None
    ] * 4


def test_an_entry_is_nothing_with_another_key_or_of_another_ledger() -> None:
    entry = SIGNER.sign(NAME, b"{}", expires_at=UNTIL)

    assert Signer("another", EPOCH).verified(NAME, entry, at=0) is None
    assert Signer(KEY, EPOCH + "1").verified(NAME, entry, at=0) is None


def test_an_entry_is_nothing_from_the_moment_of_its_expiry() -> None:
    entry = SIGNER.sign(NAME, b"{}", expires_at=UNTIL)

    assert SIGNER.verified(NAME, entry, at=UNTIL - 1) == b"{}"
    assert SIGNER.verified(NAME, entry, at=UNTIL) is None
