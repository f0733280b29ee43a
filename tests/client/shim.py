"""The synchronous client behind the asynchronous one's face, so that one suite runs over both.

Every call runs in a thread, as a caller without a loop would make it; nothing else is added.
"""

import asyncio
import functools
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

_FACADES = (
    "logbroker.client.blocking",
    "logbroker.embedded",
    "contextlib",
)
_PLAIN = frozenset(
    {
        "add",
        "text",
        "json",
        "send_nowait",
        "queue",
        "consumer",
        "producer",
        "read",
        "batch",
        "batches",
        "receive",
        "subscription",
    }
)
"""What is a plain call in both clients."""


class Home:
    """The thread that iterates over an object; its loop body calls from there too, as it would without this shim."""

    def __init__(self) -> None:
        self.task: asyncio.Task[Any] | None = None
        self._executor: ThreadPoolExecutor | None = None

    async def run(self, function: Callable[..., Any], *args: Any, iterates: bool = False) -> Any:
        """Call in that thread, when the task that iterates asks; else in any other."""
        if iterates:
            self.task = asyncio.current_task()
            self._executor = self._executor or ThreadPoolExecutor(1)
        if self._executor is None or self.task is not asyncio.current_task():
            return await asyncio.to_thread(function, *args)
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)

    def end(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=False)
            self._executor = None


def shown(value: Any, home: Home | None = None) -> Any:
    """A value as the suite sees it: objects of the synchronous client wrapped, futures to be awaited, data as it is."""
    if isinstance(value, Future):
        ack = asyncio.wrap_future(value)
        ack.add_done_callback(lambda done: done.cancelled() or done.exception())  # ``flush`` raises what nobody asks for
        return ack
    if callable(value) or type(value).__module__.startswith(_FACADES) or isinstance(value, Generator):
        return Facade(value, home)
    return value


class Facade:
    """Something of the synchronous client: used, called, entered or iterated over as the asynchronous one is."""

    def __init__(self, target: Any, home: Home | None = None) -> None:
        self._target = target
        self._home = home or Home()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        return shown(value, self._home if callable(value) else None)

    def __len__(self) -> int:
        return len(self._target)

    def __getitem__(self, index: Any) -> Any:
        return shown(self._target[index])

    def __iter__(self) -> Any:
        return iter([shown(one) for one in self._target])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = getattr(self._target, "__name__", "")
        if name in _PLAIN:
            return shown(self._target(*args, **kwargs))
        return self._in_thread(*args, **kwargs)

    async def _in_thread(self, *args: Any, **kwargs: Any) -> Any:
        return shown(await self._home.run(functools.partial(self._target, *args, **kwargs)))

    async def __aenter__(self) -> Any:
        return shown(await asyncio.to_thread(self._target.__enter__))

    async def __aexit__(self, *error: Any) -> Any:
        try:
            return await self._home.run(self._target.__exit__, *error)
        finally:
            self._home.end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        nothing = object()
        found = await self._home.run(next, self._target, nothing, iterates=True)
        if found is nothing:
            raise StopAsyncIteration
        return found

    async def aclose(self) -> None:
        """The end of a generator."""
        await self._home.run(self._target.close)
        self._home.end()
