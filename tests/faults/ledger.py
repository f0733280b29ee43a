"""What a broker without doors was asked and has promised, each with the moment: how many file operations had been done.

What lives here: the facts, and what of them must, may and may not be there after a crash at some moment. What may not:
reading a broker (``verdict``).
Invariant: what was answered by the moment must hold; what was begun by then may; anything else may not.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from logbroker.errors import FlushFailed, LogbrokerError

NEVER = 1 << 60
_ALL_OR_NOTHING = frozenset({"record", "put", "commit", "sent", "sequence"})
"""What a refusal is told of only when nothing of it was written."""

Moment: TypeAlias = Callable[[], int]
"""Tells the moment: how many operations the files have seen, or any other number that never falls."""


@dataclass(slots=True)
class Fact:
    """One thing asked of the broker. ``refused`` is a promise that it never took effect."""

    kind: str
    what: str
    begun: int
    done: int = NEVER
    at: int = -1
    """The offset it is about, where there is one."""
    key: bytes = b""
    refused: bool = False


@dataclass
class Ledger:
    """The facts of one broker, in the order in which they were begun."""

    facts: list[Fact] = field(default_factory=list)

    @contextmanager
    def asking(self, kind: str, what: str, moment: Moment) -> Iterator[Fact]:
        """Note a request around which this stands. A refusal is noted and swallowed, so that the life goes on."""
        fact = Fact(kind, what, moment())
        self.facts.append(fact)
        try:
            yield fact
        except FlushFailed:
            return
        except LogbrokerError:
            fact.refused = kind in _ALL_OR_NOTHING
        else:
            fact.done = moment()

    def of(self, kind: str, what: str | None = None) -> Iterator[Fact]:
        """The facts of a kind, and about something if told."""
        return (one for one in self.facts if one.kind == kind and what in (None, one.what))

    def promised(self, kind: str, moment: int) -> list[Fact]:
        """Those answered by a moment."""
        return [one for one in self.facts if one.kind == kind and one.done <= moment]

    def possible(self, kind: str, moment: int) -> list[Fact]:
        """Those begun before a moment, and not refused."""
        return [one for one in self.facts if one.kind == kind and one.begun < moment and not one.refused]
