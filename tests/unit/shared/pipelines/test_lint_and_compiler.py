"""Whatever linting takes can be compiled, and the program never raises because of what an event holds."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shared.pipelines.compiling import compile_pipeline
from shared.pipelines.document.problems import has_errors
from shared.pipelines.linting.pipeline import lint
from shared.pipelines.program import Attributes
from support.pipeline_texts import FILE, HEAD, pipeline_of, reader

FILES: dict[str, str | bytes] = {"own.toml": "UGX = 2\n"}
PLACES = [
    '"/a"',
    '"/x/*/id"',
    '"a"',
    '"./a/b"',
    '["/a", "/b"]',
    '{ join = ["/a", "@row"], with = "-" }',
    '"@key"',
    '"@value"',
]
OPTIONS = {
    "text": [
        "trim = true",
        'case = "lower"',
        'values = { A = "b" }',
        'values = ["A"]',
        'otherwise = "note"',
        'value = "x"',
    ],
    "integer": [
        "min = 0",
        "max = 9.5",
        "negate = true",
        "values = [1, 2]",
        'as = "text"',
        'from = "@row"',
        'on_error = "null"',
    ],
    "decimal": [
        "min = 0.5",
        'values = { A = "1.5" }',
        'sign = { from = "/s", minus = ["S"] }',
        "values = [1]",
        'value = "0.5"',
    ],
    "boolean": ['as = "text"', 'values = { J = "true" }', "required = true", "value = true"],
    "timestamp": ['as = "unix"', 'as = "%d.%m.%Y %H:%M"', 'zone = "UTC"', 'from = ["/a", "@file_at"]'],
    "date": ['as = "%d.%m.%y"', 'as = "unix_ms"', 'zone = "Europe/Berlin"', 'from = "@received_at"'],
    "uuid": ["trim = true", "optional = true"],
    "json": ["required = true", "skip = true"],
    "money": ['units = "minor"', 'exponents = "own.toml"', "digits = 6", "negate = true", 'as = "text"', "min = 0"],
    "currency": ['case = "upper"', 'value = "EUR"', 'values = ["EUR", "XTS"]'],
    "country": ['case = "upper"', 'value = "DE"', "skip = true"],
}


@st.composite
def columns(draw: st.DrawFn) -> str:
    """Return the options of a column, most of which fit its type."""
    name = draw(st.sampled_from(sorted(OPTIONS)))
    options = draw(st.lists(st.sampled_from(OPTIONS[name]), max_size=2))
    given_keys = {each.partition(" ")[0] for each in options}
    if not given_keys & {"from", "value"}:
        options.append(f"from = {draw(st.sampled_from(PLACES))}")
    if name == "money":
        options.append('currency = "cur"')
    return ", ".join({each.partition(" ")[0]: each for each in [f'type = "{name}"', *options]}.values())


AT = st.sampled_from(["", 'at = "/x/*"\n', 'at = "/*"\nexcept = ["q"]\n', 'at = "/x"\n'])
MODE = st.sampled_from(
    ["", 'mode = "latest"\nkey = ["k"]\nnewest = "n"\ngone = { "/d" = true }\n', 'types = ["a", "b.*"]\n']
)
CHECK = st.sampled_from(["", 'check = ["n >= 0"]\n', 'check = ["n = count(t)"]\n', 'check = ["n = sum(t.n)"]\n'])
WHEN = st.sampled_from(
    ["", 'when = { "/a" = ["x", 1, true] }\n', 'when = { "./b" = { present = false }, "@type" = "a" }\n']
)
MASK = st.sampled_from(["", '[mask]\n"/a" = "drop"\n', '[mask]\n"/x/*/id" = "hmac"\n"/a" = "last4"\n'])
EVENT = st.sampled_from(["", '[event]\ntype = "/type"\noccurred_at = { from = "/at", as = "unix" }\n'])

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from(["A", "EUR", "S", "1.50", "true"])
)
NUMBERS = st.decimals(allow_nan=False, allow_infinity=False)
NAMES = st.sampled_from(["a", "b", "x", "id", "k", "n", "cur", "q", "d", "s", "type", "at"])
BODIES = st.recursive(
    LEAVES | NUMBERS, lambda each: st.lists(each, max_size=3) | st.dictionaries(NAMES, each, max_size=5), max_leaves=12
)


@given(AT, MODE, CHECK, WHEN, MASK, EVENT, st.lists(columns(), max_size=3), st.lists(BODIES, max_size=3))
def test_what_linting_takes_compiles_and_runs(  # noqa: PLR0913, PLR0917 - the parts of a pipeline
    at: str, mode: str, check: str, when: str, mask: str, event: str, options: list[str], bodies: list[Any]
) -> None:
    text = f'{HEAD}{event}{mask}[[table]]\nname = "t"\n{at}{mode}{check}{when}[table.columns]\n'
    text += 'k = "/k"\nn = { from = "/n", type = "integer" }\ncur = { from = "/cur", type = "currency" }\n'
    text += "".join(f"c{number} = {{ {each} }}\n" for number, each in enumerate(options))
    pipeline = pipeline_of(text, FILES)
    if has_errors(lint(pipeline, reader(text, FILES), FILE)):
        return

    program = compile_pipeline(pipeline, {name: str(content).encode() for name, content in FILES.items()})

    for body in (*bodies, {"k": "1", "n": 1, "cur": "EUR", "a": Decimal("1.5")}):
        made = program.run(body, Attributes("shop", datetime(2026, 1, 1, tzinfo=UTC), row=1))
        assert not (made.rows and made.problems)
    made = program.run(
        {"k": "1", "n": 1, "cur": "EUR", "a": Decimal("1.5")}, Attributes("s", datetime(2026, 1, 1, tzinfo=UTC))
    )
    assert not (made.rows and made.problems)
