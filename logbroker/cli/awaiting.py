"""Waiting for a broker to come to a state, for the demonstrations that use the asynchronous client."""

import asyncio
from collections.abc import Awaitable, Callable

from logbroker.errors import LogbrokerError


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float, every_s: float = 0.05) -> None:
    """Return once the condition holds. Raises LogbrokerError when it never does."""
    try:
        async with asyncio.timeout(timeout_s):
            while not await condition():  # noqa: ASYNC110 - what is waited for is in the broker
                await asyncio.sleep(every_s)
    except TimeoutError:
        raise LogbrokerError(f"it did not come to its end within {timeout_s:g} s") from None
