"""The whole broker against plain lists and dicts, over everything it does, with stops, kills and power cuts in between.

What lives here: the state machine for hypothesis, on simulated files and time. What may not: the settings of a run
(``test_model``). Each rule is one request. A power cut falls anywhere between the files' operations of the last rule, which
then has happened or not; everything before it has.
"""

import asyncio
import random
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeVar
from unittest.mock import patch

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from logbroker.broker.queue_sends import QueueMessage
from logbroker.clock import ManualClock
from logbroker.groups.messages import CommitOffsets, OffsetToCommit
from logbroker.log.files.crashes import crash_states, everything
from logbroker.log.files.faults import FaultFiles
from logbroker.log.files.memory import MemoryFiles
from logbroker.model import ProducerStamp, Record
from logbroker.queues.dispatcher import Received, Sent, Want
from logbroker.queues.dispatcher.peeking import Cursor
from logbroker.queues.peeks import MessageState
from tests.faults.life import DATA, GROUP, NOBODY, PRODUCER, QUEUE, RETENTION_MS, Running, founded
from tests.faults.simulation import InlineLoop, InlinePool, settled

Result = TypeVar("Result")

LEASE_MS = 30_000
OPEN, LEASED, DEAD = "open", "leased", "dead"
_STATES = {
    MessageState.READY: OPEN,
    MessageState.DELAYED: OPEN,
    MessageState.RETRYING: OPEN,
    MessageState.IN_FLIGHT: LEASED,
    MessageState.DEAD: DEAD,
}
_MAX_ATTEMPTS = 2


@dataclass(frozen=True)
class Seen:
    """What a broker shows."""

    start: int = 0
    records: tuple[bytes, ...] = ()
    """Those from ``start`` on."""
    committed: int = -1
    jobs: tuple[tuple[bytes, str], ...] = ()
    """Every message that is not done, with where it is."""
    topics: frozenset[str] = frozenset()
    sequence: int = -1
    """The last sequence of the idempotent producer that is known."""

    @property
    def end(self) -> int:
        """The offset the next record gets."""
        return self.start + len(self.records)

    def record(self, offset: int) -> bytes | None:
        """What stands at an offset."""
        return self.records[offset - self.start] if self.start <= offset < self.end else None


async def seen_of(running: Running) -> Seen:
    """Look at everything."""
    bounds = await running.engine.bounds(DATA)
    records: list[bytes] = []
    offset = bounds.log_start_offset
    while offset < bounds.high_watermark:
        read = await running.engine.read(DATA, offset, max_bytes=1 << 20)
        records += [record.value or b"" for record in read.records]
        offset = read.next_offset
    committed = await running.services.groups.fetch_offsets(GROUP)
    jobs: list[tuple[bytes, str]] = []
    for state, name in _STATES.items():
        found = [letter async for _, letter in running.queue.peek.walk(state, Cursor())]
        jobs += [(letter.record.value or b"", name) for letter in found if letter is not None]
    names = {info.name for info in running.engine.topics() if info.name.startswith("extra")}
    producers = {one.producer_id: one.last_sequence for one in running.engine.raw.producers(DATA)}
    position = committed[DATA].offset if DATA in committed else -1
    return Seen(
        bounds.log_start_offset,
        tuple(records),
        position,
        tuple(sorted(jobs)),
        frozenset(names),
        producers.get(PRODUCER, -1),
    )


@dataclass
class Held:
    """A lease that a consumer has."""

    received: Received
    until_ms: int


class BrokerAgainstModel(RuleBasedStateMachine):
    """``now`` is what the broker must show, ``before`` what it showed before the last rule."""

    def __init__(self) -> None:
        super().__init__()
        self._patch = patch("logbroker.engine.flusher.ThreadPoolExecutor", InlinePool)
        self._patch.start()
        self._runner = asyncio.Runner(loop_factory=InlineLoop)
        self.clock = ManualClock()
        self.files = FaultFiles()
        self.numbers = 0
        self.held: dict[bytes, Held] = {}
        self.failures: dict[bytes, int] = {}
        """How often a message failed; missing where a power cut made it unknown."""
        self.now = self.before = Seen()
        self.mark = 0

    def teardown(self) -> None:
        self._runner.close()
        self._patch.stop()

    def _do(self, work: Any) -> Any:
        return self._runner.run(self._settle_after(work))

    async def _settle_after(self, work: Any) -> Any:
        result = await work
        await settled()
        return result

    @initialize()
    def begin(self) -> None:
        self.running = self._do(founded(self.files, self.clock))
        self.now = self._do(seen_of(self.running))
        self._begin()

    def _begin(self) -> None:
        """A rule begins: what there is now is what was there before."""
        self.before = self.now
        self.mark = len(self.files.operations)

    def _value(self, size: int) -> bytes:
        self.numbers += 1
        return b"%d." % self.numbers + bytes(size)

    # -- records -----------------------------------------------------------------------------------------------------

    @rule(sizes=st.lists(st.sampled_from([0, 10, 300, 900]), min_size=1, max_size=3))
    def produce(self, sizes: list[int]) -> None:
        self._begin()
        values = [self._value(size) for size in sizes]
        appended = self._do(self.running.engine.append(DATA, [Record(value) for value in values]))
        assert appended.base_offset == self.before.end
        self.now = replace(self.now, records=(*self.now.records, *values))

    @rule(again=st.booleans())
    def produce_once(self, again: bool) -> None:
        """One more batch of the idempotent producer, or its last one again."""
        self._begin()
        first = self.now.sequence + 1
        if again and self.now.sequence >= 0:
            first = self.now.sequence
        stamp, value = ProducerStamp(PRODUCER, 0, first), self._value(10)
        appended = self._do(self.running.engine.append(DATA, [Record(value)], producer=stamp))
        assert appended.duplicate == (first <= self.now.sequence)
        if not appended.duplicate:
            self.now = replace(self.now, records=(*self.now.records, value), sequence=first)

    @rule(part=st.floats(0, 1), max_bytes=st.integers(0, 2_000))
    def fetch(self, part: float, max_bytes: int) -> None:
        offset = self.now.start + round((self.now.end - self.now.start) * part)
        read = self._do(self.running.engine.read(DATA, offset, max_bytes=max_bytes))
        assert [(one.offset, one.value) for one in read.records] == [
            (at, self.now.record(at)) for at in range(offset, offset + len(read.records))
        ]
        assert bool(read.records) == (offset < self.now.end)

    @rule()
    def roll(self) -> None:
        self._begin()
        self.running.engine.partition(DATA).log.roll(self.clock.now())
        self._do(settled())

    @rule()
    def retain(self) -> None:
        self._begin()
        self._pass(RETENTION_MS + 1_000)
        self._do(self.running.engine.maintain())
        found: Seen = self._do(seen_of(self.running))
        assert self.now.start <= found.start <= self.now.end
        assert found.start == found.end, "everything was of age"
        self.now = replace(self.now, start=found.start, records=())

    @rule(part=st.floats(0, 1))
    def trim(self, part: float) -> None:
        self._begin()
        offset = self.now.start + round((self.now.end - self.now.start) * part)
        assert self._do(self.running.engine.trim(DATA, offset)) == offset
        self.now = replace(self.now, start=offset, records=self.now.records[offset - self.now.start :])

    # -- commits, topics ---------------------------------------------------------------------------------------------

    @rule(part=st.floats(0, 1))
    def commit(self, part: float) -> None:
        self._begin()
        offset = round(self.now.end * part)
        command = CommitOffsets(NOBODY, (OffsetToCommit(DATA, offset),))
        [(_, error)] = self._do(self.running.services.groups.commit(GROUP, command)).results
        assert error is None
        self.now = replace(self.now, committed=self._do(seen_of(self.running)).committed)
        assert self.now.committed in (offset, self.before.committed)
        assert self.now.committed >= self.before.committed or self.now.committed == offset

    @rule()
    def create_topic(self) -> None:
        self._begin()
        self.numbers += 1
        name = f"extra-{self.numbers}"
        self._do(self.running.engine.create_topic(name, 1, {}))
        self.now = replace(self.now, topics=self.now.topics | {name})

    @precondition(lambda self: self.now.topics)
    @rule(part=st.floats(0, 0.99))
    def delete_topic(self, part: float) -> None:
        self._begin()
        name = sorted(self.now.topics)[int(len(self.now.topics) * part)]
        self._do(self.running.engine.delete_topic(name))
        self.now = replace(self.now, topics=self.now.topics - {name})

    # -- messages ----------------------------------------------------------------------------------------------------

    def _jobs(self, **changed: str) -> None:
        """Take over where messages are now."""
        jobs = dict(self.now.jobs) | {name.encode(): state for name, state in changed.items()}
        self.now = replace(self.now, jobs=tuple(sorted((value, state) for value, state in jobs.items() if state)))

    @rule()
    def send(self) -> None:
        self._begin()
        self.numbers += 1
        value = b"job%d" % self.numbers
        [sent] = self._do(self.running.services.queue_sends.send(QUEUE, [QueueMessage(Record(value))]))
        assert isinstance(sent, Sent)
        self.failures[value] = 0
        self._jobs(**{value.decode(): OPEN})

    @rule()
    def lease(self) -> None:
        self._begin()
        received = self._do(self.running.queue.receive(Want(1, lease_ms=LEASE_MS), 0))
        open_ones = {value for value, state in self.now.jobs if state == OPEN}
        assert bool(received) == bool(open_ones)
        for one in received:
            assert one.value in open_ones
            self.held[one.value] = Held(one, self.clock.now().mono_ms + LEASE_MS)
            self._jobs(**{one.value.decode(): LEASED})

    @precondition(lambda self: self.held)
    @rule(part=st.floats(0, 0.99), how=st.sampled_from(["ack", "ack", "nack", "reject"]))
    def settle(self, part: float, how: str) -> None:
        self._begin()
        value = sorted(self.held)[int(len(self.held) * part)]
        receipt = self.held.pop(value).received.receipt
        settle = self.running.queue.settle
        if how == "ack":
            [error] = self._do(settle.ack([receipt]))
            state = ""
        elif how == "nack":
            [error] = self._do(settle.nack([(receipt, 0, "failed")]))
            state = self._failed(value)
        else:
            [error] = self._do(settle.reject([(receipt, "bad")]))
            state = DEAD
        assert error is None, error
        self._jobs(**{value.decode(): state})

    def _failed(self, value: bytes) -> str:
        """Where a message is that has failed once more."""
        if value not in self.failures:
            found: str = dict(self._do(seen_of(self.running)).jobs)[value]
            assert found in (OPEN, DEAD)
            return found
        self.failures[value] += 1
        return DEAD if self.failures[value] >= _MAX_ATTEMPTS else OPEN

    # -- time --------------------------------------------------------------------------------------------------------

    @rule(ms=st.sampled_from([10, 1_100, LEASE_MS + 1]))
    def pass_time(self, ms: int) -> None:
        self._begin()
        self._pass(ms)

    def _pass(self, ms: int) -> None:
        self._do(self.running.pass_time(ms))
        for value, held in list(self.held.items()):
            if held.until_ms <= self.clock.now().mono_ms:
                del self.held[value]
                self._jobs(**{value.decode(): self._failed(value)})

    # -- ends --------------------------------------------------------------------------------------------------------

    @rule()
    def stop_and_start(self) -> None:
        self._do(self.running.stop())
        self.files = FaultFiles(_copied(self.files))
        self._come_back()
        assert self._do(seen_of(self.running)) == self.now
        self._begin()

    @rule()
    def get_killed(self) -> None:
        """Between two requests: nothing is lost, leases stand."""
        self.files = FaultFiles(everything(self.files.operations))
        self._come_back()
        assert self._do(seen_of(self.running)) == self.now
        self._begin()

    @rule(part=st.floats(0, 1), seed=st.integers(0, 1 << 30))
    def lose_power(self, part: float, seed: int) -> None:
        """Somewhere in the last request, with whatever the disk kept of what was not flushed."""
        rng = random.Random(seed)
        cut = self.mark + round((len(self.files.operations) - self.mark) * part)
        *_, state = islice(crash_states(self.files.operations[:cut], rng, subsets=1), rng.randint(1, 14))
        self.files = FaultFiles(state.files)
        self._come_back()
        found: Seen = self._do(seen_of(self.running))
        self._check(found, state.name)
        self.now = found
        self._begin()
        jobs = dict(found.jobs)
        self.held = {value: held for value, held in self.held.items() if jobs.get(value) == LEASED}
        self.failures.clear()
        self._pass(LEASE_MS + 1)  # leases of consumers that nobody here knows of end
        self.now = self._do(seen_of(self.running))
        self._begin()

    def _check(self, found: Seen, how: str) -> None:
        """What is found is what there was before the last request, or after it, or something between."""
        both = (self.before, self.now)
        assert found.end in {one.end for one in both}, how
        assert min(one.start for one in both) <= found.start <= max(one.start for one in both), how
        whole = max(both, key=lambda one: one.end)
        for offset in range(found.start, found.end):
            assert found.record(offset) in (whole.record(offset), self.before.record(offset)), how
        assert found.committed in {one.committed for one in both}, how
        assert found.topics in {one.topics for one in both}, how
        assert found.sequence in {one.sequence for one in both}, how
        before, now, jobs = dict(self.before.jobs), dict(self.now.jobs), dict(found.jobs)
        assert len(jobs) == len(found.jobs), f"a message is there twice: {found.jobs}, {how}"
        for value in before.keys() | now.keys() | jobs.keys():
            allowed = {before.get(value), now.get(value)}
            if LEASED in allowed:
                allowed.add(OPEN)  # a power cut may forget a lease
            assert jobs.get(value) in allowed, f"{value!r} is {jobs.get(value)}, not {allowed}: {how}"

    def _come_back(self) -> None:
        wall_ms = self.clock.now().wall_ms
        mono_ms = self.clock.now().mono_ms
        self.clock = ManualClock(wall_ms, mono_ms)
        self._do(self._end_everything())
        self.running = self._do(Running.start(self.files, self.clock))

    async def _end_everything(self) -> None:
        """Nothing of the process that ended goes on."""
        old = asyncio.all_tasks() - {asyncio.current_task()}
        for task in old:
            task.cancel()
        await asyncio.gather(*old, return_exceptions=True)

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "running"):
            found = self._do(seen_of(self.running))
            assert found == self.now, f"{found} is there, {self.now} was expected"


def _copied(files: FaultFiles) -> MemoryFiles:
    return everything(files.operations)
