"""The journal of the producers: what they send and the answers they got, on disk before and after each call."""

import enum
import os
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

# In every payload, and so in no log.
CANARY: Final = "payload-canary"
_CSV_COLUMNS: Final = (b"text", b"object", b"at", b"stage", b"currency", b"amount")
_OBJECTS: Final = 50
_STAGES: Final = ("open", "paid", "back")
_MOMENTS: Final = 20


class Answer(enum.Enum):
    """The answer that a producer got for one content under one id."""

    STORED = "stored"
    ACCEPTED = "accepted"
    CONFLICT = "conflict"
    REFUSED = "refused"

    @property
    def kept(self) -> bool:
        """Whether the answer promises that the content is kept, as an event or as a conflict."""
        return self is not Answer.REFUSED


class Version(msgspec.Struct, gc=False):
    """One content that was sent under an id."""

    body: bytes
    answer: Answer | None = None
    """The strongest answer: what was stored once cannot become less."""
    calls: int = 0
    answers: set[Answer] = msgspec.field(default_factory=set)
    """Every answer, also those that a stronger one hides."""


class Sent(msgspec.Struct, kw_only=True, gc=False):
    """One event as its producer sees it. `versions` after the first are other contents under the same id."""

    source: str
    key: str
    versions: list[Version]
    valid: bool = True
    becomes_failed: bool = False
    csv_header: bytes = b""
    """Of a row of CSV: the line that its body begins with, and the file too."""

    @property
    def line(self) -> bytes:
        """The row as it stands in a file, without the line's end."""
        return self.first.body.removeprefix(self.csv_header + b"\n") if self.csv_header else self.first.body

    def make_csv(self, record: bytes, *, named: bool) -> None:
        """Become a row of CSV, with a column for the id or without; `record` has what `Journal.record` makes.

        The column may be empty: then this row alone has no id.
        """
        columns, fields = ([b"id"], [self.key.encode()]) if named else ([], [])
        self.csv_header = b",".join([*columns, *_CSV_COLUMNS])
        self.first.body = self.csv_header + b"\n" + b",".join([*fields, record])
        self.key = self.key if named else ""

    @property
    def first(self) -> Version:
        """The content that the event must have."""
        return self.versions[0]

    @property
    def acknowledged(self) -> bool:
        """Whether its producer may forget it."""
        return any(version.answer is not None and version.answer.kept for version in self.versions)


class Attempt(msgspec.Struct, gc=False):
    """One content of one event on its way."""

    sent: Sent
    version: Version


class Journal:
    """Of one case."""

    def __init__(self, path: Path, source: str, seed: int) -> None:
        """Events are made here, so that the same seed makes the same ones."""
        self.source = source
        self.events: list[Sent] = []
        self.calls: Counter[str] = Counter()
        self.longest_seconds: dict[str, float] = {}
        self._random = random.Random(seed)  # noqa: S311 - a seeded test, not a secret
        self._file = path.open("ab")
        self._number = 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def new(self, channel: str, *, valid: bool = True) -> Sent:
        """Return a new event with an id of its own."""
        self._number += 1
        key = f"{channel}-{self._number}"
        body = self.content() if valid else b'{"broken ' + self._filling()
        sent = Sent(source=f"{self.source}.{channel}", key=key, versions=[Version(body)], valid=valid)
        self.events.append(sent)
        return sent

    def content(self, **members: object) -> bytes:
        """Return a payload that no other event has."""
        amount = f"{self._random.randrange(10**12)}.{self._random.randrange(100):02}"
        text = self._filling().decode()
        name, at, stage = self._state()
        # With blanks: exactly these bytes must be stored.
        own = "".join(f'"{member}": {msgspec.json.encode(value).decode()}, ' for member, value in members.items())
        own += f'"object": "{name}", "at": {at}, "stage": "{stage}", "currency": "EUR", '
        return f'{{{own}"amount": {amount}, "text":"{text}" }}'.encode()

    def record(self) -> bytes:
        """Return a row of CSV that no other event has, without an id; of the amount, its end, some may be cut."""
        text, state = self._filling(), ",".join(map(str, self._state()))
        return text + f",{state},EUR,{self._random.randrange(10**4, 10**9)}".encode()

    def expect(self, attempts: Iterable[Attempt]) -> None:
        """Note on the disk what is about to be sent."""
        self._write("sends", attempts)
        for attempt in attempts:
            attempt.version.calls += 1

    def learn(self, attempt: Attempt, answer: Answer) -> None:
        """Note an answer."""
        attempt.version.answers.add(answer)
        if attempt.version.answer is not Answer.STORED:
            attempt.version.answer = answer
        self.calls[answer.value] += 1

    def note(self, attempts: Iterable[Attempt]) -> None:
        """Put the answers on the disk."""
        self._write("was answered", attempts)

    def acknowledged(self) -> Iterator[Sent]:
        """Yield every event that its producer may forget."""
        return (sent for sent in self.events if sent.acknowledged)

    def unanswered(self) -> list[Sent]:
        """Return every event that was sent and of which its producer knows nothing yet."""
        return [sent for sent in self.events if sent.first.calls and sent.first.answer is None]

    def _state(self) -> tuple[str, int, str]:
        """Return an object, a moment and a stage: several events are about one object, and some of one moment."""
        chance = self._random
        return f"o-{chance.randrange(_OBJECTS)}", chance.randrange(_MOMENTS), chance.choice(_STAGES)

    def _filling(self) -> bytes:
        return f"{CANARY}-{self._random.getrandbits(64):016x}-{'ä' * self._random.randrange(60)}".encode()

    def _write(self, verb: str, attempts: Iterable[Attempt]) -> None:
        lines = [
            f"{verb} {attempt.sent.source} {attempt.sent.key} {attempt.sent.versions.index(attempt.version)} "
            f"{attempt.version.answer.value if attempt.version.answer else '-'}\n"
            for attempt in attempts
        ]
        self._file.write("".join(lines).encode())
        self._file.flush()
        os.fdatasync(self._file.fileno())
