"""Amounts that are encoded here are those that PostgreSQL reads, and the same bytes come back."""

from decimal import Decimal, localcontext
from random import Random

import asyncpg
import pytest

from processor.ledger.database import Connections
from shared.pipelines.values.numeric import encode_amount, encode_decimal

READ = "SELECT number::text FROM unnest($1::numeric[]) WITH ORDINALITY AS sent (number, place) ORDER BY place"
SENT = "SELECT number::numeric FROM unnest($1::text[]) WITH ORDINALITY AS sent (number, place) ORDER BY place"


def amounts() -> list[tuple[int, int]]:
    """Return amounts of every length up to 18 digits and every scale, round ones among them."""
    random = Random(4217)  # noqa: S311 - the same numbers in every run
    lengths = [10**digits for digits in range(19)]
    wholes = [0, 1, *lengths, *(length - 1 for length in lengths), *(random.randrange(limit) for limit in lengths * 20)]
    return [(sign * whole, scale) for whole in wholes for scale in (0, 2, 3, 4, 6, 18) for sign in (1, -1)]


async def test_postgresql_reads_what_is_encoded(owner: asyncpg.Connection) -> None:
    await owner.set_type_codec("numeric", schema="pg_catalog", encoder=bytes, decoder=bytes, format="binary")
    sent = amounts()
    with localcontext(prec=100):
        texts = [f"{Decimal(whole).scaleb(-scale):f}" for whole, scale in sent]

    read = [row[0] for row in await owner.fetch(READ, [encode_amount(amount) for amount in sent])]
    back = [row[0] for row in await owner.fetch(SENT, texts)]

    assert read == texts
    assert back == [encode_amount(amount) for amount in sent] == [encode_decimal(Decimal(text)) for text in texts]


async def test_the_processor_sends_and_reads_exact_numbers(connections: Connections) -> None:
    sent = amounts()
    with localcontext(prec=100):
        decimals = [Decimal(f"{Decimal(whole).scaleb(-scale):f}") for whole, scale in sent]
    texts = [f"{number:f}".removeprefix("-") if number == 0 else f"{number:f}" for number in decimals]

    async with connections.taken() as connection:
        encoded = [row[0] for row in await connection.fetch(READ, [encode_amount(amount) for amount in sent])]
        as_decimals = [row[0] for row in await connection.fetch(READ, decimals)]
        back = [row[0] for row in await connection.fetch(SENT, texts)]
        one = await connection.fetchrow("SELECT $1::numeric::text, $2::numeric::text, 1.50", (1099, 2), 7)

    assert encoded == as_decimals == texts
    assert [f"{number:f}" for number in back] == texts
    assert all(isinstance(number, Decimal) for number in back)
    assert (*one[:2], str(one[2])) == ("10.99", "7", "1.50")


async def test_no_float_becomes_an_amount(connections: Connections) -> None:
    async with connections.taken() as connection:
        with pytest.raises(asyncpg.DataError):
            await connection.fetchval("SELECT $1::numeric", 1.1)


async def test_what_the_processor_read_as_numeric_before_is_read_as_before(connections: Connections) -> None:
    async with connections.taken() as connection:
        row = await connection.fetchrow(
            "SELECT extract(epoch FROM timestamptz '2026-01-01 00:00:00.5+00'), sum(number) "
            "FROM generate_series(1::bigint, 4) AS number"
        )

    assert tuple(row) == (Decimal("1767225600.500000"), Decimal(10))
