"""Whatever number is stored as SUCCESS, the real PostgreSQL can read: in the view, and in any query on a payload."""

import asyncio
import itertools

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.ledger.database import Connections
from processor.ledger.store import Store
from processor.programs.active import NO_PIPELINES
from processor.stages.transform import transform
from shared.contracts.event import now
from shared.contracts.result import RecordStatus
from support.events import event
from support.servers import Servers

ZEROS = st.integers(0, 3).map("0".__mul__)
DIGITS = st.integers(0, 10**12).map(str)
# Beside each limit: of a float, of numeric's digits after the point, of its exponent, of 32 and 64 bits.
EXPONENTS = st.sampled_from(
    [0, 1, 307, 308, 309, 16_383, 16_384, 99_999, 131_071, 131_072, 147_000, 147_453, 2**30 - 1, 2**30, 2**31, 2**63]
)
EXPONENT = st.builds(
    lambda letter, sign, zeros, power, off: f"{letter}{sign}{zeros}{max(power + off, 0)}",
    st.sampled_from("eE"),
    st.sampled_from(["", "+", "-"]),
    ZEROS,
    EXPONENTS | st.integers(0, 2**64),
    st.integers(-2, 2),
)
FRACTION = st.builds(
    lambda zeros, digits: f".{zeros}{digits}",
    ZEROS | st.sampled_from([9_700, 9_999, 12_000, 16_380]).map("0".__mul__),
    DIGITS,
)
NUMBER = st.builds(
    lambda sign, whole, fraction, exponent: f"{sign}{whole}{fraction}{exponent}",
    st.sampled_from(["", "-"]),
    st.just("0") | DIGITS | st.sampled_from([300, 4_300, 4_301]).map("9".__mul__),
    st.just("") | FRACTION,
    st.just("") | EXPONENT,
)
STRING = st.sampled_from(['"0e2147483648"', '"1e-99999"', '"\\u00e9\\\\"', '""'])
BODY = st.lists(NUMBER | STRING, max_size=3).map(lambda values: f'{{"a": [{", ".join(values)}]}}')


def test_what_is_taken_is_taken_by_postgresql_too(ledger: Servers) -> None:
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(ledger.owner_url))

        @settings(max_examples=1_500, deadline=None)
        @given(body=BODY)
        def check(body: str) -> None:
            if transform(event(body.encode()), NO_PIPELINES).status is RecordStatus.SUCCESS:
                assert runner.run(connection.fetchval("SELECT pg_input_is_valid($1, 'jsonb')", body))

        try:
            check()
        finally:
            runner.run(connection.close())


@pytest.mark.parametrize("mantissa", ["0", "0.0", "-0.000", "1", "0.1", "12"])
def test_what_is_taken_beside_the_limits_is_taken_by_postgresql_too(ledger: Servers, mantissa: str) -> None:
    powers = (16_382, 16_383, 16_384, 99_999, 2**30 - 2, 2**30 - 1, 2**30, 2**31, 2**63, 10**19)
    numbers = [f"{mantissa}{e}{power}" for e, power in itertools.product(("e", "E+", "e-", "E-00"), powers)]
    bodies = [f'{{"a": {number}}}' for number in numbers]

    async def readable() -> set[str]:
        connection = await asyncpg.connect(ledger.owner_url)
        query = "SELECT body FROM unnest($1::text[]) AS bodies (body) WHERE pg_input_is_valid(body, 'jsonb')"
        rows = await connection.fetch(query, bodies)
        await connection.close()
        return {row["body"] for row in rows}

    taken = {body for body in bodies if transform(event(body.encode()), NO_PIPELINES).status is RecordStatus.SUCCESS}

    assert taken <= asyncio.run(readable())


async def test_a_number_that_postgresql_cannot_hold_is_kept_as_failed_and_the_view_shows_every_event(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    bodies = [b'{"amount":0e2147483648}', b'{"amount":-0e9999999999}', b'{"amount":1}', b'{"amount":0e1073741823}']
    batch = [transform(event(body), NO_PIPELINES) for body in bodies]

    outcomes = await Store(connections, copy_events_min=100).write(batch, processed_at=now())

    assert [outcome.status.name for outcome in outcomes] == ["FAILED", "FAILED", "SUCCESS", "SUCCESS"]
    rows = await owner.fetch("SELECT payload FROM events ORDER BY raw_event_id")
    assert [row["payload"] for row in rows] == [None, None, '{"amount": 1}', '{"amount": 0}']
    assert await owner.fetchval("SELECT count(*) FROM events WHERE (payload->>'amount')::numeric < 5") == 2
