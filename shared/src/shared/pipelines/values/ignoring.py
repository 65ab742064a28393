"""Leaves members out of a payload: those that do not count when two bodies are compared. Pure."""

from collections.abc import Iterable

from shared.pipelines.places import STAR


def without(value: object, places: Iterable[tuple[str, ...]]) -> object:
    """Return a JSON value without the members at the given steps; `*` is every element. The value itself stays.

    Elements of arrays are gone through, and none is left out: the others would change their places.
    """
    for steps in places:
        value = _without(value, steps)
    return value


def _without(value: object, steps: tuple[str, ...]) -> object:
    step, rest = steps[0], steps[1:]
    if isinstance(value, dict):
        if rest:
            return {name: _without(each, rest) if step in {name, STAR} else each for name, each in value.items()}
        return {} if step == STAR else {name: each for name, each in value.items() if name != step}
    if isinstance(value, list) and rest:
        return [_without(each, rest) if step in {str(number), STAR} else each for number, each in enumerate(value)]
    return value
