"""Row arithmetic: sums and differences of columns and numbers, as in `gross = sum(lines.gross)`. Pure."""

import re
from decimal import Decimal
from typing import Final, Literal, cast

import msgspec

Operator = Literal["=", "<=", ">=", "<", ">"]

_OPERATORS: Final = re.compile(r"(<=|>=|=|<|>)")
_TERM: Final = re.compile(
    r"\s*(?P<sign>[+-]?)\s*(?:(?P<number>[0-9]+(?:\.[0-9]+)?)|(?P<function>sum|count)\s*\(\s*(?P<inner>[a-z0-9_.]+)\s*\)"
    r"|(?P<column>[a-z][a-z0-9_]*))\s*(?=[+-]|\Z)",
    re.ASCII,
)


class Term(msgspec.Struct, frozen=True):
    """One operand with its sign (1 or -1): a number, a column, the sum of a column of a table, or its count of rows."""

    sign: Literal[1, -1]
    number: Decimal | None = None
    column: str = ""
    table: str = ""
    function: Literal["", "sum", "count"] = ""


class Comparison(msgspec.Struct, frozen=True):
    """`left operator right`."""

    left: tuple[Term, ...]
    operator: Operator
    right: tuple[Term, ...]
    text: str

    @property
    def terms(self) -> tuple[Term, ...]:
        """The operands of both sides."""
        return self.left + self.right


class ArithmeticSyntaxError(ValueError):
    """The text is no comparison, or no sum; the message says what may stand there."""


def read_comparison(text: str) -> Comparison:
    """Return the comparison that a `check` or `must` states. Raises ArithmeticSyntaxError."""
    parts = _OPERATORS.split(text)
    if len(parts) != len(("left", "operator", "right")):
        raise ArithmeticSyntaxError("must compare two sides once, as in `received <= amount`")
    left, operator, right = parts
    return Comparison(read_sum(left), cast("Operator", operator), read_sum(right), " ".join(text.split()))


def read_sum(text: str) -> tuple[Term, ...]:
    """Return the operands of a sum or difference, as in `credit - debit`. Raises ArithmeticSyntaxError."""
    terms: list[Term] = []
    position = 0
    while position < len(text) or not terms:
        found = _TERM.match(text, position)
        if found is None or (terms and not found["sign"]):
            raise ArithmeticSyntaxError(_misread(text[position:].strip()))
        terms.append(_term(found))
        position = found.end()
    return tuple(terms)


def _misread(rest: str) -> str:
    if not rest:
        return "lacks an operand; name columns or numbers, as in `credit - debit`"
    hint = "multiplication and division are left to SQL" if set(rest) & set("*/%") else "there are + - sum() count()"
    return f"cannot be read from `{rest[:20]}`; {hint}"


def _term(found: re.Match[str]) -> Term:
    sign: Literal[1, -1] = -1 if found["sign"] == "-" else 1
    if found["number"]:
        return Term(sign, number=Decimal(found["number"]))
    if found["column"]:
        return Term(sign, column=found["column"])
    table, _, column = found["inner"].partition(".")
    if found["function"] == "count":
        if column:
            raise ArithmeticSyntaxError(f"counts rows; write count({table})")
        return Term(sign, table=table, function="count")
    if not column:
        raise ArithmeticSyntaxError(f"sums a column; write sum({table}.column)")
    return Term(sign, column=column, table=table, function="sum")
