"""What decides a result beside the files is part of a version, where the pipeline depends on it."""

import pytest

from shared.pipelines.facts import facts_of
from support.pipeline_texts import COLUMNS, HEAD, pipeline_of

KEY = b"a key"
MASKED = HEAD + '[mask]\n"/mail" = "{}"\n[[table]]\nname = "orders"\n[table.columns]\nid = "/id"\n'


def test_a_pipeline_that_depends_on_nothing_has_no_facts() -> None:
    assert facts_of(pipeline_of(COLUMNS + 'id = "/id"\n'), KEY) == {}


def test_money_depends_on_the_table_of_currencies() -> None:
    facts = facts_of(pipeline_of(COLUMNS + 'currency = { from = "/c", type = "currency" }\n'), KEY)

    assert list(facts) == ["currencies"]


def test_times_of_a_zone_depend_on_the_zones() -> None:
    column = 'at = { from = "/at", type = "timestamp", as = "%Y-%m-%d %H:%M", zone = "Europe/Berlin" }\n'

    assert list(facts_of(pipeline_of(COLUMNS + column), KEY)) == ["zones"]


@pytest.mark.parametrize(("mask", "needed"), [("hmac", True), ("drop", False), ("last4", False), ("domain", False)])
def test_keyed_hashes_depend_on_the_key_of_which_only_an_id_is_told(mask: str, *, needed: bool) -> None:
    facts = facts_of(pipeline_of(MASKED.format(mask)), KEY)

    assert facts == ({"mask_key": "8fa3aab2faa9"} if needed else {})
