"""Many messages, moves reported in any order, crashes that keep any prefix of any file: none lost, none doubled.

Unlike the model test nothing is predicted here but the promise itself: a message whose end (ack, cancel, discard) is in the
journal that survives has no open position, every other one has exactly one.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from logbroker.errors import AppendUnknown
from logbroker.machine import Moved, MoveFailed
from logbroker.queues import commands as c
from logbroker.queues.headers import decoded
from logbroker.queues.messages import FoundCopy
from logbroker.queues.positions import Position, Source, index_of
from logbroker.queues.rules import LeaseRules
from tests.queues.world import LEASE_MS, NO_DELAY, World, text

pick = st.integers(0, 1_000)


class Chaos(RuleBasedStateMachine):
    """One world whose flushes and crashes hypothesis decides."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(LeaseRules(max_attempts=3, retry=NO_DELAY), auto=False)
        self.held: list[c.Delivery] = []
        self.ended: dict[str, int] = {}
        self.published = 0

    def end(self, value: str) -> None:
        self.ended[value] = len(self.world.journal)

    @rule()
    def publish(self) -> None:
        self.world.publish(f"m{self.published}")
        self.published += 1

    @rule(limit=st.integers(1, 5))
    def receive(self, limit: int) -> None:
        self.held += self.world.receive(limit)

    @precondition(lambda self: self.held)
    @rule(n=pick, verb=st.sampled_from(["ack", "nack", "nack", "reject", "release"]))
    def settle(self, n: int, verb: str) -> None:
        delivery = self.held.pop(n % len(self.held))
        if verb == "ack" and self.world.ack(delivery.receipt) == [None]:
            self.end(text(delivery))
        elif verb == "nack":
            self.world.nack(delivery.receipt)
        elif verb == "reject":
            self.world.reject(delivery.receipt, "no")
        elif verb == "release":
            self.world.do(c.Release((delivery.receipt,)))

    @rule()
    def expire(self) -> None:
        self.world.advance(LEASE_MS)

    @precondition(lambda self: self.world.dead())
    @rule(n=pick, discard=st.booleans())
    def treat_a_dead_letter(self, n: int, discard: bool) -> None:
        letter = self.world.dead()[n % len(self.world.dead())]
        if not discard:
            self.world.redrive(letter.offset)
        elif self.world.do(c.Discard((letter.offset,))):
            assert letter.value is not None
            self.end(letter.value.decode())

    @precondition(lambda self: self.published)
    @rule(n=pick)
    def cancel(self, n: int) -> None:
        offset = n % self.published
        if self.world.do(c.Cancel(index_of(Position(Source.SOURCE, offset)))) is c.Outcome.CANCELLED:
            self.end(f"m{offset}")

    @rule(source=st.sampled_from([Source.RETRY, Source.DEAD]))
    def flush(self, source: Source) -> None:
        log = self.world.logs[source]
        log.flushed = len(log.records)

    def durable(self) -> list[int]:
        world = self.world
        return [n for n, (move, at) in enumerate(world.appended) if at < world.logs[world.source(move.where)].flushed]

    @precondition(lambda self: self.durable())
    @rule(n=pick)
    def report(self, n: int) -> None:
        durable = self.durable()
        move, offset = self.world.appended.pop(durable[n % len(durable)])
        self.world.do(Moved(move.token, offset))

    @precondition(lambda self: self.world.appended)
    @rule(n=pick)
    def lose_sight_of_an_append(self, n: int) -> None:
        """AppendUnknown: the shell reads the topic on before it says that the move failed."""
        world = self.world
        move, _ = world.appended[n % len(world.appended)]
        source = world.source(move.where)
        log = world.logs[source]
        log.flushed = len(log.records)
        copies = (FoundCopy(r.offset, decoded(r.headers), r.key) for r in log.read(world.machine.seen(source)))
        world.do(c.TakeOver(source, tuple(copies), log.flushed))
        world.appended = [entry for entry in world.appended if entry[0] is not move]
        world.do(MoveFailed(move.token, AppendUnknown()))

    @rule()
    def purge(self) -> None:
        world = self.world
        world.do(c.Purge(world.logs[Source.SOURCE].flushed, world.machine.seen(Source.RETRY)))
        for value in [value for value, at in self.places().items() if not at]:
            self.ended.setdefault(value, len(world.journal))

    @rule()
    def flush_journal(self) -> None:
        self.world.flush_journal()

    @rule()
    def trim(self) -> None:
        self.world.trim_retry()

    @rule(retry=pick, dead=pick, journal=pick)
    def crash(self, retry: int, dead: int, journal: int) -> None:
        world = self.world

        def kept(flushed: int, written: int, n: int) -> int:
            return flushed + n % (written - flushed + 1)

        logs = world.logs
        keep = kept(world.journal_flushed, len(world.journal), journal)
        self.ended = {value: at for value, at in self.ended.items() if at <= keep}
        world.crash(
            retry=kept(logs[Source.RETRY].flushed, len(logs[Source.RETRY].records), retry),
            dead=kept(logs[Source.DEAD].flushed, len(logs[Source.DEAD].records), dead),
            journal=keep,
        )

    def places(self) -> dict[str, list[Position]]:
        """The open positions of each message, copies that are not taken over yet left out."""
        seen = {source: self.world.machine._state.progress(source) for source in (Source.RETRY, Source.DEAD)}
        found = self.world.open_positions()
        return {
            value: [at for at in found.get(value, []) if at.source is Source.SOURCE or seen[at.source].took(at.offset)]
            for value in (f"m{n}" for n in range(self.published))
        }

    @invariant()
    def every_message_is_in_one_place(self) -> None:
        places = self.places()
        assert {v: len(at) for v, at in places.items()} == {v: 0 if v in self.ended else 1 for v in places}, places


TestChaos = Chaos.TestCase
TestChaos.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)
