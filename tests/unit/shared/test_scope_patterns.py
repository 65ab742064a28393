"""Which sources of a pipeline a key may read: the same as looking at every name there could be."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from shared.auth.scopes import Scope

# Longer than every pattern below, so that beginnings are told from names.
NAMES = ["".join(letters) for length in range(1, 5) for letters in product("ab", repeat=length)]
PATTERNS = st.builds(str.__add__, st.text("ab", min_size=1, max_size=3), st.sampled_from(["", "*"])) | st.just("*")


@given(sources=st.lists(PATTERNS, max_size=3), pattern=PATTERNS)
def test_a_pattern_meets_a_scope_where_one_name_is_of_both(sources: list[str], pattern: str) -> None:
    scope, of_pattern = Scope(sources), Scope([pattern])

    assert scope.meets(pattern) == any(scope.covers(name) for name in NAMES if of_pattern.covers(name))


@given(source=PATTERNS, pattern=PATTERNS)
def test_a_scope_covers_a_pattern_where_it_covers_every_name_of_it(source: str, pattern: str) -> None:
    scope, of_pattern = Scope([source]), Scope([pattern])

    assert scope.covers_all(pattern) == all(scope.covers(name) for name in NAMES if of_pattern.covers(name))


def test_several_names_never_cover_a_pattern_that_could_name_another() -> None:
    assert not Scope(["aa*", "ab*", "a"]).covers_all("a*")
