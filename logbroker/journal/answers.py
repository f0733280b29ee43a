"""Who waits for an answer, and for which flush.

What lives here: the futures. A reply or answer is given once everything its machine had written before is durable; a parked
caller waits for a later decision first.
Invariant: a caller is answered at most once; one that has left is skipped.
"""

import asyncio
from heapq import heappop, heappush
from itertools import count
from typing import Generic, TypeVar

from logbroker.errors import LogbrokerError
from logbroker.machine import Answer, Decision, Park

R = TypeVar("R")


class Answers(Generic[R]):
    """Futures of parked callers by token, and replies that wait for the disk."""

    def __init__(self) -> None:
        self._parked: dict[int, asyncio.Future[R | None]] = {}
        self._waiting: list[tuple[int, int, asyncio.Future[R | None], R | LogbrokerError | None]] = []
        self._order = count()
        self._flushed = 0

    def give(self, decision: Decision[R], future: "asyncio.Future[R | None] | None", needs_offset: int) -> None:
        """Pass on what a decision says, once offsets below ``needs_offset`` are durable."""
        if not decision.wait_for_flush:
            needs_offset = self._flushed
        if future is not None:
            if isinstance(decision.reply, Park):
                self._parked[decision.reply.token] = future
            else:
                self._settle(future, decision.reply, needs_offset)
        for answer in decision.answers:
            self._answer(answer, needs_offset)

    def _answer(self, answer: Answer[R], needs_offset: int) -> None:
        future = self._parked.pop(answer.token, None)
        if future is not None:
            self._settle(future, answer.reply, needs_offset)

    def _settle(self, future: "asyncio.Future[R | None]", reply: R | LogbrokerError | None, needs_offset: int) -> None:
        if needs_offset <= self._flushed:
            resolve(future, reply)
        else:
            heappush(self._waiting, (needs_offset, next(self._order), future, reply))

    def flushed(self, offset: int) -> None:
        """Offsets below ``offset`` are durable."""
        self._flushed = max(self._flushed, offset)
        while self._waiting and self._waiting[0][0] <= self._flushed:
            _, _, future, reply = heappop(self._waiting)
            resolve(future, reply)

    def fail(self, error: LogbrokerError) -> None:
        """There will be no more answers."""
        for _, _, future, _ in self._waiting:
            resolve(future, error)
        for future in self._parked.values():
            resolve(future, error)
        self._waiting.clear()
        self._parked.clear()


def resolve(future: "asyncio.Future[R | None]", reply: R | LogbrokerError | None) -> None:
    """Give a caller its reply, an error as an exception; nothing if it has left."""
    if future.done():
        return
    if isinstance(reply, LogbrokerError):
        future.set_exception(reply)
    else:
        future.set_result(reply)
