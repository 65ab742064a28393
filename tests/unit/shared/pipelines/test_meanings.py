"""Every key of a pipeline file, and every word that may stand there, is described once."""

import re
from collections.abc import Mapping
from typing import get_args

import msgspec
import pytest

from shared.pipelines import model
from shared.pipelines.codegen.faults import DETAILS, TYPE_DETAILS
from shared.pipelines.document import meanings
from shared.pipelines.document.words import known_keys
from shared.pipelines.places import ATTRIBUTES, read_place
from shared.pipelines.program import RowProblem
from shared.pipelines.trials import expectations

PARTS = {
    each
    for each in vars(model).values()
    if isinstance(each, type) and issubclass(each, msgspec.Struct) and not each.__name__.startswith("_")
} - {msgspec.Struct}
TEST_PARTS = {expectations.PipelineTest, expectations.KnownOfEvent, expectations.ExpectedProblem}


@pytest.mark.parametrize(
    ("described", "parts"), [(meanings.MEANINGS, PARTS), (expectations.MEANINGS, TEST_PARTS)], ids=["file", "tests"]
)
def test_each_key_of_each_part_is_described(
    described: Mapping[type[msgspec.Struct], Mapping[str, str]], parts: set[type[msgspec.Struct]]
) -> None:
    assert described.keys() == parts
    assert {each.__name__: texts.keys() ^ known_keys(each) for each, texts in described.items()} == {
        each.__name__: set() for each in parts
    }


def test_each_type_mask_and_attribute_is_described() -> None:
    assert meanings.TYPES.keys() == set(get_args(model.ColumnType)) == TYPE_DETAILS.keys()
    assert meanings.MASKS.keys() == set(get_args(model.Masking))
    assert meanings.ATTRIBUTES.keys() == set(ATTRIBUTES)


@pytest.mark.parametrize("place", meanings.PLACES)
def test_a_place_of_the_reference_is_one(place: str) -> None:
    assert read_place(place)


def test_each_code_is_described_in_one_place() -> None:
    listed = re.search(r"`code`: (.*?)<keyword>", " ".join((RowProblem.__doc__ or "").split()))
    assert listed is not None
    codes = set(re.split(r", | or ", listed[1]))

    described = {code.removesuffix("*") for code in (*meanings.CODES, *DETAILS)}
    # What the processor says of an event before a program runs, or instead of it.
    assert described == codes | {"not_object", "held"}
    assert not meanings.CODES.keys() & DETAILS.keys()
