"""Whether the broker serves, and the signal that it stops.

What lives here: the named checks behind ``/readyz`` and the one event that ends waiting requests. What may not: deciding
when to start or stop; ``node`` does, and sets what it knows here.
"""

import asyncio
from typing import NamedTuple


class Check(NamedTuple):
    """One reason to be ready or not."""

    name: str
    ok: bool
    detail: str


class Lifecycle:
    """The state of the process as its doors see it."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}
        self.closing = asyncio.Event()
        """Set when the broker drains: long polls and tails answer at once with what they have."""

    def report(self, name: str, ok: bool, detail: str = "") -> None:
        """Set the state of one check, as ``recovery`` or ``disk``."""
        self._checks[name] = Check(name, ok, detail)

    def checks(self) -> list[Check]:
        """All checks; draining is one of them."""
        closing = self.closing.is_set()
        return [*self._checks.values(), Check("draining", not closing, "the broker is stopping" if closing else "")]

    @property
    def ready(self) -> bool:
        """Whether every check is ok."""
        return all(check.ok for check in self.checks())
