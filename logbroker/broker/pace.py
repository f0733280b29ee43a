"""How fast an operation may go."""

import asyncio


class Pace:
    """At most ``rate`` records a second, by the loop's clock; None for as fast as it can."""

    def __init__(self, rate: float | None, at_once: int) -> None:
        self._rate = rate
        self._free_at = 0.0
        self.at_once = at_once if rate is None else min(at_once, max(1, int(rate)))
        """How many to take together: never more than the rate gives in a second, so that the first are no burst."""

    async def wait(self, count: int) -> None:
        """Return when ``count`` more may go."""
        if self._rate is None:
            return
        now = asyncio.get_running_loop().time()
        delay = max(0.0, self._free_at - now)
        self._free_at = max(now, self._free_at) + count / self._rate
        await asyncio.sleep(delay)
