"""What is done about an error of PostgreSQL: decided by SQLSTATE, never by text."""

import enum
from typing import Final

from shared.contracts.errors import EtlPayError, PermanentError, UnavailableError


class Fault(enum.Enum):
    """The cause of an error, and what is done about it."""

    EVENT = "the event is kept, with a FAILED record"
    RULE = "an added trigger or constraint refuses a row: the other events are stored, that one is held"
    OURS = "no event is the cause: everything is held, and an error is logged for an operator"
    MOMENT = "a passing condition: it is tried again"
    SOURCES = "a source was erased: its remembered id is forgotten, and it is tried again"
    IDS = "an id is used already: ids beyond all used ones are allocated, and it is tried again"
    TABLE = "a typed table cannot be written: its pipeline is held, and everything else goes on"


# What was written when the error came. It is part of the key: other tables may need another answer to one SQLSTATE.
ANY: Final = "*"
LEDGER: Final = "ledger"
# The raw event with a FAILED record, which holds no result.
LEDGER_FAILED: Final = "ledger, FAILED"
# Rows of a typed table, which belongs to its users: they may drop, lock, fill and constrain it.
TYPED: Final = "typed"

_KNOWN_AS: Final = {
    ANY: (ANY,),
    LEDGER: (LEDGER, ANY),
    LEDGER_FAILED: (LEDGER_FAILED, LEDGER, ANY),
    TYPED: (TYPED, ANY),
}

# Rules that the migrations did not make: triggers, their functions, exclusion constraints, updatable views.
_RULES: Final = ("P0", "09", "23000", "23001", "23P01", "27", "2F", "38", "39", "44")

# By SQLSTATE or its class (PostgreSQL documentation, appendix A). All others are OURS, or TABLE of a typed table.
FAULTS: Final[dict[tuple[str, str], Fault]] = {
    # A value that PostgreSQL cannot hold, a document too large or too deep for jsonb, a constraint of the table.
    (LEDGER, "22"): Fault.EVENT,
    (LEDGER, "54"): Fault.EVENT,
    (LEDGER, "23502"): Fault.EVENT,
    (LEDGER, "23514"): Fault.EVENT,
    # Without a document the server itself is at a limit, such as the wraparound of its transaction ids.
    (LEDGER_FAILED, "54"): Fault.MOMENT,
    # A sequence is at its end.
    (LEDGER, "2200H"): Fault.OURS,
    # The ledger's only references are to sources, and to raw events that are erased with them.
    (LEDGER, "23503"): Fault.SOURCES,
    # A known event id raises no error. So this is an id that we chose, or that a sequence gave.
    (LEDGER, "23505"): Fault.IDS,
    **{(LEDGER, sqlstate): Fault.RULE for sqlstate in _RULES},
    # A value, or a rule of the table's users about a row; one that refuses many rows is a fault of the table.
    **{(TYPED, sqlstate): Fault.EVENT for sqlstate in ("22", "23", "54", *_RULES)},
    # Locked for long, slow beyond the limit, on a full or broken disk, damaged: no other table has to wait for it.
    **{(TYPED, sqlstate): Fault.TABLE for sqlstate in ("53", "55", "57014", "58", "XX")},
    # A session that is cut or confused by a pooler; conflicts of transactions; a server that lacks a resource, stops,
    # starts, cancels, is read-only for now, or has an internal error.
    **{
        (ANY, sqlstate): Fault.MOMENT
        for sqlstate in (
            "08", "25", "26", "40", "42P05", "53", "55000", "55006", "55P03", "57", "58", "XX000",
        )
    },
    # The database is being dropped.
    (ANY, "57P04"): Fault.OURS,
}  # fmt: skip

# After these the state of the session is unknown, so it is not used again.
_SESSION_LOST: Final = ("08", "25", "26", "42P05")


class PermanentDataError(PermanentError):
    """PostgreSQL refuses a value."""

    def __init__(self, sqlstate: str) -> None:
        """Keep the SQLSTATE; the server's own text may quote the value."""
        super().__init__(f"PostgreSQL refused a value (SQLSTATE {sqlstate})")
        self.sqlstate = sqlstate


class LedgerRefusesError(UnavailableError):
    """PostgreSQL refuses, whatever the event is. An operator must remove the cause; meanwhile it is tried again."""


class RuleError(LedgerRefusesError):
    """A rule that was added to the ledger refuses a row."""


class OutdatedError(UnavailableError):
    """What this process remembers of the ledger is outdated; `fault` says what."""

    def __init__(self, fault: Fault, sqlstate: str = "") -> None:
        """Keep the fault, which is SOURCES or IDS."""
        super().__init__(f"the ledger is not what it was (SQLSTATE {sqlstate or 'none'})")
        self.fault = fault


def fault_of(sqlstate: str, *, writing: str = LEDGER) -> Fault:
    """Return the fault of an SQLSTATE; `writing` is ANY, LEDGER, LEDGER_FAILED or TYPED."""
    for tables in _KNOWN_AS[writing]:
        for key in (sqlstate, sqlstate[:2]):
            if (fault := FAULTS.get((tables, key))) is not None:
                return fault
    return Fault.TABLE if writing == TYPED else Fault.OURS


def classified(error: Exception, *, writing: str = LEDGER) -> EtlPayError:
    """Return the error of EtlPay for an error of asyncpg or SQLAlchemy.

    An error without an SQLSTATE is that of a connection: whether the statement took effect is unknown.
    """
    sqlstate = sqlstate_of(error)
    if not sqlstate:
        return UnavailableError("PostgreSQL cannot be reached")
    match fault_of(sqlstate, writing=writing):
        case Fault.EVENT:
            return PermanentDataError(sqlstate)
        case Fault.RULE:
            return RuleError(f"a rule that was added to the ledger refuses a row (SQLSTATE {sqlstate})")
        case Fault.OURS:
            return LedgerRefusesError(f"PostgreSQL will not do it (SQLSTATE {sqlstate})")
        case Fault.MOMENT:
            return UnavailableError(f"PostgreSQL cannot do it now (SQLSTATE {sqlstate})")
        case fault:
            return OutdatedError(fault, sqlstate)


def sqlstate_of(error: Exception) -> str:
    """Return the SQLSTATE of an error; empty where it has none."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) or ""


def ends_session(error: Exception) -> bool:
    """Return True where the connection of this error must not be used again."""
    return sqlstate_of(error).startswith(_SESSION_LOST)
