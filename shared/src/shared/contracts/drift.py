"""Drift: what events hold that no pipeline reads, and the answer of `GET /api/drift`."""

import enum
from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

import msgspec

DriftName: TypeAlias = Literal["unknown_type", "unknown_member"]


class DriftKind(enum.IntEnum):
    """What a pipeline does not read. The numbers are those of the ledger, the names the codes of the problems."""

    UNKNOWN_TYPE = 1
    UNKNOWN_MEMBER = 2

    # That of an enumeration is written in Python, and costs ten times as much.
    __hash__ = int.__hash__

    @property
    def label(self) -> DriftName:
        """The name as people read it."""
        return "unknown_type" if self is DriftKind.UNKNOWN_TYPE else "unknown_member"


OTHER_PLACES = "*"
"""The place of all members beyond the number that a process counts apart."""


class DriftItem(msgspec.Struct, frozen=True, kw_only=True):
    """How many events held something at a place that the version of a pipeline does not read.

    `place`: a JSON Pointer, or the column of a CSV file as one; empty: the event is of a type that no table takes; `*`:
    members beyond those that are counted apart. `first_hour` and `last_hour` are hours of arrival. `example` is the id
    of one of the events, a recent one.
    """

    pipeline: str
    version: int
    kind: DriftName
    place: str
    events: int
    first_hour: datetime
    last_hour: datetime
    example: UUID | None


class DriftReport(msgspec.Struct, frozen=True):
    """What pipelines do not read, most events first."""

    items: list[DriftItem]
