"""Time as a test makes it: it stands until it is moved, and what is due has happened when the move returns."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from logbroker.broker.services import Services
from logbroker.clock import ManualClock

_TURNS = 20_000


class _Settles(Protocol):
    @property
    def is_settled(self) -> bool: ...

    def wake(self) -> None: ...


async def advance(clock: ManualClock, services: Services, ms: int, maintain: Callable[[], Any]) -> None:
    """Move the clock, let everything that is due happen, and let retention look. Raises AssertionError if it never ends."""
    clock.advance(ms)
    parts: list[_Settles] = [services.groups, *services.queues.list(), *services.subscriptions.list()]
    await _settled(parts)
    await maintain()


async def _settled(parts: Iterable[_Settles]) -> None:
    for part in parts:
        part.wake()
        for _ in range(_TURNS):
            if part.is_settled:
                break
            await asyncio.sleep(0)
        else:
            raise AssertionError(f"{part} is still at work: something is due again and again")
