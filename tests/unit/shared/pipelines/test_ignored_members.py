"""Members that do not count when two bodies are compared."""

import pytest

from shared.pipelines.values.ignoring import without


@pytest.mark.parametrize(
    ("place", "left"),
    [
        (("b",), {"a": {"x": 1, "y": [{"x": 1, "z": 2}, 3]}}),
        (("a", "x"), {"a": {"y": [{"x": 1, "z": 2}, 3]}, "b": 1}),
        (("a", "y", "*", "x"), {"a": {"x": 1, "y": [{"z": 2}, 3]}, "b": 1}),
        (("a", "y", "0", "x"), {"a": {"x": 1, "y": [{"z": 2}, 3]}, "b": 1}),
        (("a", "*", "*", "z"), {"a": {"x": 1, "y": [{"x": 1}, 3]}, "b": 1}),
        (("a", "*"), {"a": {}, "b": 1}),
    ],
)
def test_a_member_is_left_out(place: tuple[str, ...], left: object) -> None:
    payload = {"a": {"x": 1, "y": [{"x": 1, "z": 2}, 3]}, "b": 1}

    assert without(payload, [place]) == left
    assert payload == {"a": {"x": 1, "y": [{"x": 1, "z": 2}, 3]}, "b": 1}


@pytest.mark.parametrize("place", [("c",), ("b", "x"), ("a", "y", "1", "x"), ("a", "y", "0"), ("a", "y", "*")])
def test_what_is_not_there_and_elements_of_arrays_change_nothing(place: tuple[str, ...]) -> None:
    payload = {"a": {"x": 1, "y": [{"x": 1, "z": 2}, 3]}, "b": 1}

    assert without(payload, [place]) == payload


def test_several_places_are_left_out_together() -> None:
    assert without({"a": 1, "b": 2, "c": 3}, [("a",), ("c",)]) == {"b": 2}
