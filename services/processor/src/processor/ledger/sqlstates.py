"""Whose fault an error of PostgreSQL is: the event's, ours, or the moment's. By SQLSTATE, and never by text."""

import enum
from typing import Final

from shared.contracts.errors import EtlPayError, PermanentError, UnavailableError


class Fault(enum.Enum):
    """Whose fault an error is, and what is done about it."""

    EVENT = "the event is kept, with a FAILED record"
    RULE = "somebody's trigger or constraint refuses a row: the other events are stored, that one is held"
    OURS = "nothing of it is the event's fault: everything is held, and an operator is told"
    MOMENT = "it is tried again"
    SOURCES = "a source is not there any more: what is remembered of it is forgotten, and it is tried again"
    IDS = "an id is used already: ids beyond all that are used are taken, and it is tried again"


# What was written when the error came. Tables with columns of their own types will have another answer to the same
# SQLSTATE, so it is a part of the key.
ANY: Final = "*"
LEDGER: Final = "ledger"
# The raw event with a FAILED record: nothing that was made of the body is in it.
LEDGER_FAILED: Final = "ledger, FAILED"

_KNOWN_AS: Final = {ANY: (ANY,), LEDGER: (LEDGER, ANY), LEDGER_FAILED: (LEDGER_FAILED, LEDGER, ANY)}

# By SQLSTATE or its class (PostgreSQL documentation, appendix A). What is not here is our fault.
FAULTS: Final[dict[tuple[str, str], Fault]] = {
    # A value that PostgreSQL cannot hold, a document too large or too deep for jsonb, a constraint of the table.
    (LEDGER, "22"): Fault.EVENT,
    (LEDGER, "54"): Fault.EVENT,
    (LEDGER, "23502"): Fault.EVENT,
    (LEDGER, "23514"): Fault.EVENT,
    # Without the document it is the server that is at a limit, such as the wraparound of its transaction ids.
    (LEDGER_FAILED, "54"): Fault.MOMENT,
    # A sequence is at its end.
    (LEDGER, "2200H"): Fault.OURS,
    # The ledger's only references are to sources, and to raw events that are erased with them.
    (LEDGER, "23503"): Fault.SOURCES,
    # Event ids that are there already are no error: what is left is an id that we chose, or that a sequence gave.
    (LEDGER, "23505"): Fault.IDS,
    # Rules that only somebody else can have added: triggers, their functions, exclusion constraints, updatable views.
    **{
        (LEDGER, sqlstate): Fault.RULE
        for sqlstate in ("P0", "09", "23000", "23001", "23P01", "27", "2F", "38", "39", "44")
    },
    # A session that is cut, or confused by a pooler; conflicts of transactions; a server that is short of something,
    # that stops or starts, is asked to cancel, is read-only for now, or meets an error of its own.
    **{
        (ANY, sqlstate): Fault.MOMENT
        for sqlstate in (
            "08", "25", "26", "40", "42P05", "53", "55000", "55006", "55P03", "57", "58", "XX000",
        )
    },
    # The database is being dropped.
    (ANY, "57P04"): Fault.OURS,
}  # fmt: skip

# After these a session is not what we think it is, so it is not used again.
_SESSION_LOST: Final = ("08", "25", "26", "42P05")


class PermanentDataError(PermanentError):
    """PostgreSQL refuses a value."""

    def __init__(self, sqlstate: str) -> None:
        """Keep the SQLSTATE; the server's own text may quote the value."""
        super().__init__(f"PostgreSQL refused a value (SQLSTATE {sqlstate})")
        self.sqlstate = sqlstate


class LedgerRefusesError(UnavailableError):
    """PostgreSQL does not do it, whatever the event is. An operator must look; it is tried again until it does."""


class RuleError(LedgerRefusesError):
    """A rule that somebody added to the ledger refuses a row."""


class OutdatedError(UnavailableError):
    """What this process remembers of the ledger is not true any more; `fault` says what."""

    def __init__(self, fault: Fault, sqlstate: str = "") -> None:
        """Keep the fault, which is SOURCES or IDS."""
        super().__init__(f"the ledger is not what it was (SQLSTATE {sqlstate or 'none'})")
        self.fault = fault


def fault_of(sqlstate: str, *, writing: str = LEDGER) -> Fault:
    """Return whose fault an SQLSTATE is; `writing` is ANY, LEDGER or LEDGER_FAILED."""
    for tables in _KNOWN_AS[writing]:
        for key in (sqlstate, sqlstate[:2]):
            if (fault := FAULTS.get((tables, key))) is not None:
                return fault
    return Fault.OURS


def classified(error: Exception, *, writing: str = LEDGER) -> EtlPayError:
    """Return what is to be done about an error of the driver, or of SQLAlchemy, as an error of ours.

    One without an SQLSTATE is that of a connection: whether the statement took effect is unknown.
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
    """Tell whether the connection that an error came from must not be used again."""
    return sqlstate_of(error).startswith(_SESSION_LOST)
