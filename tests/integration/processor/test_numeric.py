"""Amounts that are encoded here are those that PostgreSQL reads, and the same bytes come back."""

from decimal import Decimal, localcontext
from random import Random

import asyncpg

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
