"""What a handler is told and what it gives back.

What lives here: the context of a request, and answers that come later. What may not: sockets, layouts, decisions.
Invariant: an answer is given at most once; a ``Later`` that was cancelled never calls back.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

from logbroker.wire.codes import ErrorCode
from logbroker.wire.primitives import Buffer

Body: TypeAlias = list[Buffer]
"""The body of a response in pieces, to be written one after the other."""


class Reply(NamedTuple):
    """An answer. ``body`` None: the client wants none (Produce with acks = 0). ``code`` is for the metrics."""

    body: Body | None
    code: ErrorCode = ErrorCode.NONE


Done: TypeAlias = Callable[[Reply], None]


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What this broker tells clients of itself. Host and port are the advertised ones."""

    node_id: int
    host: str
    port: int
    cluster_id: str


class Context(NamedTuple):
    """Who asks, and in which version. ``caller`` names the connection; it is never used again."""

    node: NodeFacts
    version: int
    client_id: str
    client_host: str
    caller: str


class Later(Protocol):
    """An answer that has to wait."""

    @property
    def blocks(self) -> bool:
        """Whether what the client sent after it must wait for it, as Kafka has it; appends alone overtake."""
        ...

    def then(self, done: Done) -> None:
        """Call ``done`` when the answer is there, at once if it is. Called once, before anything else."""
        ...

    def hasten(self) -> None:
        """The broker is closing: what waits only for more records answers with what there is."""
        ...

    def cancel(self) -> None:
        """The client has gone: stop waiting."""
        ...


Answer: TypeAlias = Reply | Later


class Disconnect(Exception):
    """There is no way to answer in the protocol: the connection has to be closed, with this reason in the log."""


class Task:
    """A ``Later`` over a coroutine that makes the reply and raises nothing.

    It goes on when the client has gone: half of what changes something would help nobody. ``running`` holds it meanwhile.
    """

    __slots__ = ("_coroutine", "_done", "_running")

    blocks = True

    def __init__(self, coroutine: Coroutine[Any, Any, Reply], running: set[asyncio.Task[None]]) -> None:
        self._coroutine = coroutine
        self._running = running
        self._done: Done | None = None

    def then(self, done: Done) -> None:
        self._done = done
        task = asyncio.get_running_loop().create_task(self._run())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def hasten(self) -> None:
        """What it waits for is ended by whoever owns that."""

    def cancel(self) -> None:
        self._done = None

    async def _run(self) -> None:
        reply = await self._coroutine
        if self._done is not None:
            self._done(reply)
