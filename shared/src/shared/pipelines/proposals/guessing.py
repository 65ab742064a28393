"""Guesses a column for each place of some events: name, type, options, and the share that the guess stands on. Pure."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal

import msgspec

from shared.pipelines.document.sql_names import sql_name_problem
from shared.pipelines.places import STAR
from shared.pipelines.proposals.observing import Observed, Steps
from shared.pipelines.trials.expectations import quote

COLUMNS_MAX: Final = 100
SHARE_MIN: Final = 0.01
"""A member of fewer events becomes no column."""

NAME_LENGTH_MAX: Final = 40
_INTEGER_DIGITS_MAX: Final = 18
_AMOUNT_DIGITS_MAX: Final = 12
_USUAL_DECIMALS: Final = 2
_COMMON_LETTERS_MIN: Final = 3
_UMLAUTS: Final = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue"})
_VALUES_REPEATED_MIN: Final = 3
_VALUES_COUNTED_MIN: Final = 10

_AMOUNT: Final = re.compile(
    r"amount|total|net|gross|fees?|price|balance|value|vat|tax|paid|received|refunded|debit|credit|cost|charge|betrag|saldo"
    r"|commission|markup|interchange|discount"
)
_NO_AMOUNT: Final = re.compile(r"rate|percent|share|count|number|quantity|per_|_date|_at$")
_PERSONAL: Final = {
    re.compile(r"e_?mail"): "hmac",
    re.compile(r"iban|phone|mobile|card_number|account_number|^pan$"): "last4",
    re.compile(r"tax_id|passport|ssn|birth|born"): "drop",
}
_UNLISTED: Final = re.compile(
    r"name|mail|address|street|city|phone|iban|person|holder|id$|token|key|description|purpose"
)


class Member(msgspec.Struct, frozen=True):
    """A place that may become a column: as text of the file, with what was observed there."""

    place: str
    steps: Steps
    observed: Observed
    csv: bool = False

    @property
    def words(self) -> str:
        """The last name of the place, as words of a column's name."""
        return slug(self.steps[0] if self.csv else self.steps[-1])


class Guess(msgspec.Struct):
    """A column that is proposed. `options` are TOML, by key. `mask`: for its place. `units`: of an amount of money.

    `alternative`: a place that counts first.
    """

    name: str
    member: Member
    type: str = "text"
    options: dict[str, str] = {}
    comment: str = ""
    mask: str | None = None
    units: Literal["minor", "major"] | None = None
    alternative: str | None = None

    def render(self) -> str:
        """Return the right side of the column in TOML."""
        place = (
            f"[{quote(self.alternative)}, {quote(self.member.place)}]" if self.alternative else quote(self.member.place)
        )
        if self.type == "text" and not self.options and not self.alternative:
            return place
        typed = {} if self.type == "text" else {"type": quote(self.type)}
        units = {"units": quote(self.units)} if self.units == "minor" else {}
        items = {"from": place, **typed, **units, **self.options}
        return "{ " + ", ".join(f"{key} = {value}" for key, value in items.items()) + " }"


def slug(text: str) -> str:
    """Return a text as a name of a table or column: small letters, digits and `_`."""
    plain = unicodedata.normalize("NFKD", text.translate(_UMLAUTS)).encode("ascii", "ignore").decode()
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", plain)
    words = re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")[:NAME_LENGTH_MAX].strip("_")
    return words if words[:1].isalpha() else f"c_{words}".strip("_")


def table_name(*words: str) -> str:
    """Return the name of a table; a word of SQL becomes its plural."""
    name = slug("_".join(words))
    return f"{name}s" if sql_name_problem(name) else name


def masking_of(member: Member) -> str | None:
    """Return how a place that looks like personal data should be masked; only of a text something is left."""
    named = next((masking for pattern, masking in _PERSONAL.items() if pattern.search(member.words)), None)
    has_name = member.observed.kinds == {"text"} and not member.place.startswith("#")
    return named if named is None or has_name else "drop"


def guess_columns(members: Sequence[Member], total: int, outer: Sequence[Member] = ()) -> list[Guess]:
    """Return the columns for the places of one table.

    `total`: how many events or elements it was made of. `outer`: places outside of the elements, for a currency.
    """
    often = [member for member in members if member.observed.filled >= max(1, SHARE_MIN * total)]
    by_steps = {member.steps: member for member in often}
    guesses: list[Guess] = []
    taken: set[str] = set()
    expanded: list[Member] = []
    for member in often[:COLUMNS_MAX]:
        if member.observed.kinds == {"object"} or any(_is_under(member, each) for each in expanded):
            continue
        guess = Guess(_name(member, taken), member, comment=share_text(member.observed, total))
        inner = by_steps.get((*member.steps, "id"))
        if inner is not None and _is_expanded(member.observed, inner.observed):
            expanded.append(member)
            guess.alternative = inner.place
        guesses.append(guess)
        _guess_type(guess, total)
    _guess_money(guesses, [*_outer_currencies(outer, taken)])
    return guesses


def _is_expanded(observed: Observed, inner: Observed) -> bool:
    """Tell whether a place holds an id, or an object with that id."""
    return observed.kinds == {"text", "object"} and inner.kinds == {"text"} and inner.filled == observed.objects


def share_text(observed: Observed, total: int) -> str:
    """Return how often a place was filled: `9,981 of 10,000; 19 null`."""
    nulls = f"; {observed.nulls:,} null" if observed.nulls else ""
    return f"{observed.filled:,} of {total:,}{nulls}"


def _is_under(each: Member, member: Member) -> bool:
    return len(each.steps) > len(member.steps) and each.steps[: len(member.steps)] == member.steps


def _name(member: Member, taken: set[str]) -> str:
    steps = [member.steps[0]] if member.csv else [step for step in member.steps if step != STAR]
    for length in range(1, len(steps) + 1):
        name = slug("_".join(steps[-length:]))
        name = f"{name}_value" if sql_name_problem(name) else name
        if name not in taken:
            break
    plain, number = name, 1
    while name in taken:
        number += 1
        name = f"{plain}_{number}"
    taken.add(name)
    return name


def _is_amount(member: Member) -> bool:
    return _AMOUNT.search(member.words) is not None and _NO_AMOUNT.search(member.words) is None


def _guess_type(guess: Guess, total: int) -> None:
    member, observed = guess.member, guess.member.observed
    guess.mask = masking_of(member)
    if guess.alternative is None and observed.kinds == {"text"}:
        guess.type = "text" if guess.mask else _type_of_text(guess)
    elif guess.alternative is None:
        guess.type = _type_of_kinds(guess)
    if observed.filled == total and not guess.mask:
        guess.options["required"] = "true"
    if member.csv and observed.counted < total:
        guess.options["optional"] = "true"
    if guess.type == "text" and not guess.mask and guess.alternative is None:
        _guess_values(guess)


def _type_of_kinds(guess: Guess) -> str:
    observed = guess.member.observed
    if observed.kinds == {"boolean"}:
        return "boolean"
    if observed.kinds == {"integer"} and not _is_amount(guess.member):
        for layout in ("unix", "unix_ms"):
            if layout in observed.forms:
                guess.options["as"] = quote(layout)
                return "timestamp"
    if observed.kinds == {"integer"} and observed.digits <= _INTEGER_DIGITS_MAX:
        return "integer"
    return "decimal" if observed.kinds <= {"integer", "decimal"} else "json"


def _type_of_text(guess: Guess) -> str:
    member, forms = guess.member, guess.member.observed.forms
    found: str | None = next((form for form in ("timestamp", "uuid", "date") if form in forms), None)
    if "day.month.year" in forms:
        guess.options["as"] = quote("%d.%m.%Y")
        found = "date"
    for named in ("currency", "country"):
        if found is None and named in forms and re.search(rf"{named}|waehrung|^c?cy$|land$", member.words):
            found = named
            guess.options["case"] = quote("upper")
    if found is None and member.csv:
        found = next((form for form in ("boolean", "integer", "decimal", "decimal comma") if form in forms), None)
    if found is None and not member.csv and "decimal" in forms and _is_amount(member):
        found = "decimal"
    return "decimal" if found == "decimal comma" else found or "text"


def _guess_values(guess: Guess) -> None:
    observed = guess.member.observed
    distinct = observed.distinct
    if distinct is None or len(distinct) == 1 or _UNLISTED.search(guess.member.words):
        return
    enough = max(_VALUES_COUNTED_MIN, _VALUES_REPEATED_MIN * len(distinct))
    if observed.filled >= enough:
        guess.options["values"] = "[" + ", ".join(map(quote, sorted(distinct))) + "]"
        guess.comment += f"; {len(distinct)} distinct values"


def _outer_currencies(outer: Sequence[Member], taken: set[str]) -> Iterator[Guess]:
    for member in outer:
        guess = Guess(member.words, member, comment="of the event")
        if member.observed.kinds == {"text"} and _type_of_text(guess) == "currency":
            guess.name, guess.type = _name(member, taken), "currency"
            yield guess


def _guess_money(guesses: list[Guess], outer: Sequence[Guess]) -> None:
    own = [guess for guess in guesses if guess.type == "currency"]
    currencies = own or outer
    amounts = [guess for guess in guesses if guess.type in {"integer", "decimal"} and _is_amount(guess.member)]
    amounts = [guess for guess in amounts if guess.member.observed.digits <= _AMOUNT_DIGITS_MAX]
    for guess in amounts:
        filled = [each for each in currencies if _covers(each.member.observed, guess.member.observed, own=each in own)]
        beside = max(filled, key=lambda each: _nearness(guess, each, guesses), default=None)
        if beside is None:
            continue
        if beside not in guesses:
            guesses.append(beside)
        guess.units = "minor" if guess.type == "integer" and not guess.member.csv else "major"
        guess.type = "money"
        digits = (
            {"digits": str(guess.member.observed.decimals)} if guess.member.observed.decimals > _USUAL_DECIMALS else {}
        )
        guess.options = {"currency": quote(beside.name), **digits, **guess.options}


def _covers(currency: Observed, amount: Observed, *, own: bool) -> bool:
    """Tell whether a currency stood wherever an amount did: in the same event or element, or around the element."""
    if own:
        return currency.rows >= amount.rows
    return {event for event, _ in currency.rows} >= {event for event, _ in amount.rows}


def _nearness(guess: Guess, currency: Guess, guesses: Sequence[Guess]) -> tuple[int, int]:
    """Return how much two places have in common: the beginning of their names, or the members from the root.

    Of equal ones the last before the amount is the nearest.
    """
    order = [each.name for each in guesses]
    before = currency.name in order and order.index(currency.name) < order.index(guess.name)
    last = order.index(currency.name) if before else -1
    if guess.member.csv:
        common = _common(guess.member.steps[0], currency.member.steps[0])
        return common if common >= _COMMON_LETTERS_MIN else 0, last
    return _common(guess.member.steps[:-1], currency.member.steps[:-1]), last


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    pairs: Iterable[tuple[str, str]] = zip(one, other, strict=False)
    return sum(1 for _ in _equal_beginning(pairs))


def _equal_beginning(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    for left, right in pairs:
        if left != right:
            return
        yield left
