"""A responder: requests of a service handed to a function, whose result is the answer.

What lives here: answering. What may not: slots and threads (``slots``), who waits for whom (the broker).
Invariant: every request that was begun is answered: with what the handler returned, or with what went wrong.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from logbroker.client.aio.driver import Driver
from logbroker.client.aio.slots import POLL_S, Given, Returned, SlotOptions, Slots, log
from logbroker.client.calls.services import AnswerRequest, Asked, ReplyGiven, Serve
from logbroker.client.flows import Flow, do
from logbroker.client.handling import decoder_of, told_of
from logbroker.client.payloads import record_of
from logbroker.errors import LogbrokerError, RequestGone


class Responder(Slots[Asked, Given, Returned]):
    """A handler that answers a service. Calling it calls the handler; ``run`` works until ``stop``."""

    def __init__(
        self, driver: Driver, service: str, handler: Callable[Given, Returned], options: SlotOptions, consumer: str
    ) -> None:
        super().__init__(driver, service, handler, options)
        self.answered = 0
        self.failed = 0
        self.late = 0
        """How many answers found nobody waiting any more."""
        self._consumer = consumer
        self._decode = decoder_of(self._wanted.kind, Asked)
        self._answering: set[asyncio.Task[None]] = set()

    def _fetch(self, limit: int) -> Flow[list[Asked]]:
        return do(Serve(self.name, limit, round(POLL_S * 1_000), self._consumer))

    def _id(self, item: Asked) -> str:
        return item.token

    def _arguments(self, item: Asked) -> tuple[Any, ...]:
        message = self._decode(item)
        return (message, item) if self._wanted.context else (message,)

    def _ended(self, item: Asked, returned: Any, error: BaseException | None) -> None:
        reply = ReplyGiven(None, told_of(error)) if error is not None else _reply_of(returned)
        answering = asyncio.create_task(self._answer(item, reply), name=f"answer of {self.name}")
        self._answering.add(answering)
        answering.add_done_callback(self._answering.discard)

    async def _answer(self, item: Asked, reply: ReplyGiven) -> None:
        try:
            await self._driver(AnswerRequest(item.token, reply))
        except RequestGone:
            self.late += 1
        except LogbrokerError as error:
            log.warning("service %s: an answer could not be given: %s: %s", self.name, error.code, error)
        else:
            self.answered += 1
            self.failed += reply.record is None

    async def _finish(self) -> None:
        if self._answering:
            await asyncio.wait(self._answering)


def _reply_of(returned: Any) -> ReplyGiven:
    try:
        return ReplyGiven(record_of(returned))
    except LogbrokerError as error:
        return ReplyGiven(None, str(error))
