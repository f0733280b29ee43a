"""A subscription against sets: publishing, settling, other filters, seeks, snapshots and restarts in any order."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from logbroker.broker.subscriptions import AtSnapshot
from logbroker.clock import ManualClock
from logbroker.errors import LeaseLost
from logbroker.log.files.memory import MemoryFiles
from logbroker.queues.dispatcher import Received
from tests.pubsub.shell import Reader, reading
from tests.queues.shell import settled

LETTERS = "abc"
Step = tuple[str, int]
STEPS = (
    *("publish", "publish", "receive", "receive", "receive", "ack", "ack", "release", "nack"),
    *("filter", "filter", "seek", "snapshot", "back", "restart"),
)
steps = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 100)), min_size=20, max_size=50)


@dataclass
class Model:
    """What is done, held and wanted; offsets are those of the one partition."""

    values: str = ""
    done: set[int] = field(default_factory=set)
    held: dict[int, Received] = field(default_factory=dict)
    stale: list[Received] = field(default_factory=list)
    versions: list[tuple[int, str]] = field(default_factory=lambda: [(0, LETTERS)])
    left_out: set[int] = field(default_factory=set)
    """What a filter was asked about and left out."""
    kept: set[int] | None = None

    def wants(self, offset: int) -> bool:
        wanted = next(letters for since, letters in reversed(self.versions) if since <= offset)
        return self.values[offset] in wanted

    def available(self) -> set[int]:
        return {at for at in range(len(self.values)) if at not in self.done and at not in self.held and self.wants(at)}

    def sought(self, done: set[int]) -> None:
        self.stale = list(self.held.values())
        self.held.clear()
        self.left_out.clear()
        self.done = done
        self.versions = [(0, self.versions[-1][1])]


class Run:
    """One broker after the other, on the same files."""

    def __init__(self) -> None:
        self.files, self.clock, self.model = MemoryFiles(), ManualClock(), Model()
        self.stack = AsyncExitStack()
        self.reader: Reader

    async def start(self) -> None:
        self.reader = await self.stack.enter_async_context(reading(self.files, self.clock))

    async def restart(self, n: int) -> None:
        await self.stack.aclose()
        await self.start()

    async def publish(self, n: int) -> None:
        more = "".join(LETTERS[(n + at) % 3] for at in range(1 + n % 4))
        await self.reader.publish(*more)
        self.model.values += more

    async def receive(self, n: int) -> None:
        expected = self.model.available()
        received = await self.reader.receive(1 + n % 5)
        assert len(received) == min(1 + n % 5, len(expected))
        for one in received:
            assert one.offset in expected, (one.offset, expected)
            assert (one.value or b"").decode() == self.model.values[one.offset]
            self.model.held[one.offset] = one
        assert len({one.offset for one in received}) == len(received)

    def _held(self, n: int) -> tuple[int, Received] | None:
        held = sorted(self.model.held.items())
        return held[n % len(held)] if held else None

    async def ack(self, n: int) -> None:
        for stale in self.model.stale[:1]:
            [outcome] = await self.reader.ack(stale)
            assert isinstance(outcome, LeaseLost)
        chosen = self._held(n)
        if chosen is not None:
            assert await self.reader.ack(chosen[1]) == [None]
            self.model.done.add(chosen[0])
            del self.model.held[chosen[0]]

    async def release(self, n: int) -> None:
        chosen = self._held(n)
        if chosen is not None:
            assert await self.reader.queue.settle.release([chosen[1].receipt]) == [None]
            del self.model.held[chosen[0]]

    async def nack(self, n: int) -> None:
        chosen = self._held(n)
        if chosen is not None:
            assert await self.reader.nack(chosen[1]) is None
            del self.model.held[chosen[0]]

    async def filter(self, n: int) -> None:
        letters = ["ab", "c", LETTERS, "b"][n % 4]
        if letters == self.model.versions[-1][1]:
            return
        await self.reader.alter(filter=" || ".join(f'value == "{letter}"' for letter in letters))
        since = self.reader.queue.definition.filters[-1].since.get(0, 0)
        assert since > max((-1, *self.model.held, *self.model.left_out))  # these keep the filter that judged them
        self.model.versions.append((since, letters))

    async def seek(self, n: int) -> None:
        offset = n % (len(self.model.values) + 1)
        await self.reader.services.subscriptions.seek("audit", {0: offset})
        self.model.sought(set(range(offset)))

    async def snapshot(self, n: int) -> None:
        snapshots = self.reader.services.snapshots
        if self.model.kept is not None:
            await snapshots.delete("kept")
        await snapshots.take("kept", self.reader.queue, None)
        self.model.kept = self.model.done | self.model.left_out

    async def back(self, n: int) -> None:
        if self.model.kept is not None:
            await self.reader.services.subscriptions.seek("audit", AtSnapshot("kept"))
            self.model.sought(set(self.model.kept))

    async def note_left_out(self) -> None:
        read = (await self.reader.queue.progress())[0].read
        self.model.left_out |= {at for at in range(read) if at not in self.model.held and not self.model.wants(at)}

    async def end(self) -> None:
        """Everything that is wanted comes once, and then nothing is left."""
        expected = self.model.available()
        taken: list[int | None] = []
        while received := await self.reader.receive(50):
            taken += [one.offset for one in received]
            await self.reader.ack(*received)
        assert sorted(at for at in taken if at is not None) == sorted(expected)
        for one in self.model.held.values():
            assert await self.reader.ack(one) == [None]
        [progress] = await self.reader.queue.progress()
        assert progress.frontier == progress.end == len(self.model.values)


async def run(chosen: list[Step]) -> None:
    one = Run()
    await one.start()
    try:
        await one.publish(2)
        await one.reader.subscribe(max_attempts=None, retry={"policy": "none"}, ack_deadline_ms=3_600_000)
        for name, n in chosen:
            await getattr(one, name)(n)
            await one.note_left_out()
        await settled()
        await one.end()
    finally:
        await one.stack.aclose()


@settings(max_examples=40, deadline=None)
@given(steps)
def test_what_is_delivered_is_what_the_sets_say(chosen: list[Step]) -> None:
    asyncio.run(run(chosen))
