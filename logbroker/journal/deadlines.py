"""When which machine wants to be called again. Pure.

Invariant: no machine is called later than its earliest deadline; it may be called early, for a deadline that has moved on
is only found out when it comes up. That makes a heartbeat cost nothing here.
"""

from heapq import heappop, heappush


class Deadlines:
    """A heap of machines by the time they are due."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, str]] = []
        self._scheduled: dict[str, int] = {}

    def schedule(self, name: str, mono_ms: int | None) -> None:
        """Call ``name`` at ``mono_ms``, unless it is to be called before that anyway."""
        if mono_ms is not None and mono_ms < self._scheduled.get(name, mono_ms + 1):
            self._scheduled[name] = mono_ms
            heappush(self._heap, (mono_ms, name))

    def due(self, mono_ms: int) -> list[str]:
        """The machines to call now; each has to be scheduled again afterwards."""
        names = []
        while self._heap and self._heap[0][0] <= mono_ms:
            due, name = heappop(self._heap)
            if self._scheduled.get(name) == due:
                del self._scheduled[name]
                names.append(name)
        return names

    def next(self) -> int | None:
        """When ``due`` has something next."""
        return self._heap[0][0] if self._heap else None
