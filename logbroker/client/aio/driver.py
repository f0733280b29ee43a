"""Carrying calls and flows out, with retries: the one place where the asynchronous client waits for a broker."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Protocol, TypeVar, cast

from logbroker.client.calls.base import Call, Wait
from logbroker.client.flows import Flow
from logbroker.client.retrying import RETRIES, delays, may_try_again
from logbroker.errors import Closed, LogbrokerError, UsedAfterFork

T = TypeVar("T")


class Carrier(Protocol):
    """What brings a call to a broker and its answer back."""

    async def open(self) -> None:
        """Get ready; in process, start the broker."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...

    async def call(self, call: Call[T]) -> T:
        """The answer. Raises what the broker refuses with, and Unreachable. A caller may be cancelled at any time."""
        ...


class Runnable(Protocol):
    """Works until it is stopped."""

    async def run(self) -> None:
        """Work."""
        ...

    def stop(self) -> None:
        """Take on no more; ``run`` returns once what runs has ended."""
        ...


R = TypeVar("R", bound=Runnable)


class Driver:
    """Carries calls out for every object of one client."""

    def __init__(self, carrier: Carrier, retries: int = RETRIES) -> None:
        self._carrier = carrier
        self._retries = retries
        self._process = os.getpid()
        self._is_open = False
        self.workers: list[Runnable] = []
        """What the client's ``run`` runs."""
        self._open_parts: dict[object, Callable[[], Awaitable[None]]] = {}

    async def open(self) -> None:
        """Open the carrier. Raises Closed when it is open already."""
        self._refuse_fork()
        if self._is_open:
            raise Closed("this client is open already: use it inside its context, once")
        await self._carrier.open()
        self._is_open = True

    async def close(self) -> None:
        """Close producers and consumers that are still open, then the carrier."""
        if not self._is_open:
            return
        self._refuse_fork()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._close_carrier)
            for close in reversed(self._open_parts.values()):
                stack.push_async_callback(close)

    async def _close_carrier(self) -> None:
        self._is_open = False
        await self._carrier.close()

    def working(self, worker: R) -> R:
        """The same worker, which the client's ``run`` runs from now on."""
        self.workers.append(worker)
        return worker

    def opened(self, part: object, close: Callable[[], Awaitable[None]]) -> None:
        """A part is open that has to be closed before the client is."""
        self._open_parts[part] = close

    def closed(self, part: object) -> None:
        """A part is closed."""
        self._open_parts.pop(part, None)

    def _refuse_fork(self) -> None:
        if os.getpid() != self._process:
            raise UsedAfterFork

    async def __call__(self, call: Call[T]) -> T:
        """The answer of a call, tried again where that may help and does no harm."""
        self._refuse_fork()
        if isinstance(call, Wait):
            await asyncio.sleep(call.seconds)
            return cast(T, None)
        for delay in delays(self._retries):
            if not self._is_open:
                break
            try:
                return await self._carrier.call(call)
            except LogbrokerError as error:
                if not may_try_again(call, error):
                    raise
            await asyncio.sleep(delay)
        if not self._is_open:
            raise Closed
        return await self._carrier.call(call)

    async def run(self, flow: Flow[T]) -> T:
        """The outcome of a flow."""
        try:
            call: Call[Any] = flow.send(None)
            while True:
                try:
                    answer = await self(call)
                except LogbrokerError as error:
                    call = flow.throw(error)
                else:
                    call = flow.send(answer)
        except StopIteration as end:
            outcome: T = end.value
            return outcome
        finally:
            flow.close()
