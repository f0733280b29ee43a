"""Members that join, leave, die and fall silent while the broker restarts: every record is processed, in order.

A run makes random steps over HTTP on a clock that is moved by hand. After each step:

- what is committed never moves back, and everything below it has been processed;
- what a poll gives is not committed yet, and begins at the first record that is not.

A *careful* member processes what it was given right after a heartbeat that says it is still in, commits just that, and dies
only before; its group then processes every record exactly once. A careless one does not ask and commits what it was given
last, of which a broker that has restarted knows nothing; so it may process records again.
"""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from logbroker.broker.services import Services, services_on
from logbroker.clock import ManualClock
from logbroker.config import TopicConfig
from logbroker.engine.api import Engine
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.http_api.server import HttpServer
from logbroker.log.files.memory import MemoryFiles
from tests.engine.fake import FakeEngine
from tests.http_api.conftest import CONFIG, Answer, Door

pytestmark = pytest.mark.asyncio

PARTITIONS = 5
STEPS = 150
GROUP = "/v1/groups/g"

At = tuple[int, int]
"""Partition and offset of a record."""


@dataclass
class Member:
    """A client, and what it has been given but not processed."""

    member_id: str
    pending: list[At] = field(default_factory=list)
    positions: list[Any] = field(default_factory=list)
    generation: int = -1


class World:
    """A broker that restarts, its clients, and what they did."""

    def __init__(
        self, engine: Engine, clock: ManualClock, session: aiohttp.ClientSession, seed: int, careful: bool
    ) -> None:
        self.engine = engine
        self.clock = clock
        self.session = session
        self.careful = careful
        self.random = random.Random(seed)
        self.members: list[Member] = []
        self.joins: list[asyncio.Task[Answer]] = []
        self.written: set[At] = set()
        self.processed: list[At] = []
        self.committed: dict[int, int] = {}
        self.services: Services
        self.server: HttpServer
        self.door: Door

    async def start(self) -> None:
        self.services = services_on(self.engine, self.clock, CONFIG, "cluster")
        await self.services.groups.start()
        self.server = HttpServer(self.services)
        await self.server.start("127.0.0.1", 0)
        self.door = Door(self.server.url, self.session, self.services)

    async def stop(self) -> None:
        await self.server.stop()
        await self.services.members.close()
        await self.services.groups.stop()
        for join in self.joins:
            join.cancel()
        await asyncio.gather(*self.joins, return_exceptions=True)
        self.joins.clear()

    # -- steps ---------------------------------------------------------------------------------------------------------

    async def step(self) -> None:
        steps = [self.produce] * 3 + [self.poll] * 8 + [self.join, self.leave, self.die, self.advance, self.restart]
        await self.random.choice(steps)()
        await self.check()

    async def produce(self) -> None:
        records = [{"value": "x", "partition": self.random.randrange(PARTITIONS)} for _ in range(self.random.randint(1, 6))]
        for result in await self.door.produce(*records):
            self.written.add((result["partition"], result["offset"]))

    async def join(self) -> None:
        if len(self.members) + len(self.joins) < 4:
            wish = {"topics": ["orders"], "auto_offset_reset": "earliest"}
            wish["assignor"] = self.random.choice(["range", "cooperative-sticky"])
            self.joins.append(asyncio.create_task(self.door("POST", f"{GROUP}/members", wish)))
            await asyncio.sleep(0.002)

    async def collect(self) -> None:
        for join in [one for one in self.joins if one.done()]:
            self.joins.remove(join)
            answer = join.result()
            assert answer.status == 201, answer
            self.members.append(Member(answer.json["member_id"]))

    def _path(self, member: Member, rest: str = "") -> str:
        return f"{GROUP}/members/{member.member_id}{rest}"

    async def process(self, member: Member) -> None:
        if self.careful and (await self.door("POST", self._path(member, ":heartbeat"))).status != 200:
            return
        self.processed += member.pending
        member.pending = []

    async def poll(self) -> None:
        await self.collect()
        if not self.members:
            return
        member = self.random.choice(self.members)
        await self.process(member)
        if member.pending:
            self.members.remove(member)
            return
        options: dict[str, Any] = {"max_records": self.random.randint(1, 10), "wait_ms": self.random.choice([0, 0, 2])}
        if self.careful:
            options["commit"] = member.positions
        answer = await self.door("POST", self._path(member, ":poll"), options)
        if answer.status == 404:
            self.members.remove(member)
            return
        assert answer.status == 200, answer
        member.positions, member.generation = answer.json["positions"], answer.json["generation"]
        member.pending = [(record["partition"], record["offset"]) for record in answer.json["records"]]
        await self.read_committed()
        self.check_given(member.pending)

    async def leave(self) -> None:
        if self.members:
            member = self.members.pop(self.random.randrange(len(self.members)))
            await self.process(member)
            if member.positions and not member.pending:
                claim = {"member_id": member.member_id, "generation": member.generation}
                await self.door("PUT", f"{GROUP}/offsets", {"offsets": member.positions, **claim})
            await self.door("DELETE", self._path(member))

    async def die(self) -> None:
        if self.members:
            member = self.members.pop(self.random.randrange(len(self.members)))
            if not self.careful:
                self.processed += member.pending

    async def advance(self) -> None:
        self.clock.advance(self.random.randrange(20_000))
        self.services.groups.wake()
        await asyncio.sleep(0)

    async def restart(self) -> None:
        if self.random.random() < 0.3:
            await self.stop()
            await self.start()

    # -- what holds ----------------------------------------------------------------------------------------------------

    async def read_committed(self) -> None:
        offsets = (await self.door("GET", f"{GROUP}/offsets")).json["offsets"]
        now = {one["partition"]: one["offset"] for one in offsets}
        for partition, before in self.committed.items():
            assert now[partition] >= before, "a commit moved back"
        self.committed = now

    async def check(self) -> None:
        await self.read_committed()
        done = set(self.processed)
        for partition, offset in self.written - done:
            assert offset >= self.committed.get(partition, 0), "committed before it was processed"

    def check_given(self, given: list[At]) -> None:
        first: dict[int, int] = {}
        for partition, offset in given:
            first.setdefault(partition, offset)
        for partition, offset in first.items():
            unread = min(
                at for number, at in self.written if number == partition and at >= self.committed.get(partition, 0)
            )
            assert offset == unread, "a poll gave what was committed, or left something out"

    async def finish(self) -> None:
        """Let members alone until everything is processed, in bounded time."""
        for _ in range(200):
            if set(self.processed) == self.written and not any(member.pending for member in self.members):
                return
            if not self.members and not self.joins:
                await self.join()
            await self.advance()
            for _ in range(3):
                await self.poll()
                await self.check()
        raise AssertionError(f"not processed: {sorted(self.written - set(self.processed))}")


@pytest.mark.parametrize("careful", [True, False], ids=["careful", "careless"])
@pytest.mark.parametrize("kind", ["fake", "memory"])
@pytest.mark.parametrize("seed", range(4))
async def test_every_record_is_processed_in_order_whatever_happens_to_members(seed: int, kind: str, careful: bool) -> None:
    clock = ManualClock()
    engine: Any = FakeEngine(clock)
    if kind == "memory":
        engine = EmbeddedEngine(MemoryFiles(), CONFIG, TopicConfig(), clock)
        await engine.start()
    await engine.create_topic("orders", PARTITIONS, {})
    async with aiohttp.ClientSession() as session:
        world = World(engine, clock, session, seed, careful)
        await world.start()
        for _ in range(STEPS):
            await world.step()
        await world.finish()
        await world.stop()
    if kind == "memory":
        await engine.stop()
    assert len(world.written) > 50
    if careful:
        assert len(world.processed) == len(world.written), "processed more than once"
        for partition in range(PARTITIONS):
            offsets = [offset for number, offset in world.processed if number == partition]
            assert offsets == sorted(offsets)
