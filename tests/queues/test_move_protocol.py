"""The move protocol on the real machine: a crash at every point of the first, second and third failure and of a redrive.

Each move is one of ten scripts: it ends undisturbed, or a crash keeps or loses the unflushed copy, and of the journal any
prefix between what is flushed and what is written. After each step the message has exactly one open position, and none
after its ack was answered. The same scripts catch each of the faults below, or they would prove nothing.
"""

from itertools import product
from typing import Any, NamedTuple

import pytest

from logbroker.machine import Decision, Moved
from logbroker.queues import commands as c
from logbroker.queues.leases import LeaseMachine
from logbroker.queues.positions import Source
from logbroker.queues.rules import LeaseRules
from tests.queues.world import LEASE_MS, NO_DELAY, World, text

RULES = LeaseRules(max_attempts=3, retry=NO_DELAY)


class Script(NamedTuple):
    """One move. ``forget`` is how many of the journal's unflushed entries a crash loses."""

    crash: bool
    flush: bool = True
    keep: bool = True
    forget: int = 0


SCRIPTS = [
    Script(crash=False),
    *(Script(True, False, keep, forget) for keep in (False, True) for forget in (0, 1, 2)),
    *(Script(True, True, True, forget) for forget in (0, 1, 2)),
]


class Violated(AssertionError):
    """The message was lost, doubled, or came back after its ack."""


def check(world: World, *, acked: bool = False) -> None:
    found = world.open_positions()
    if acked and found:
        raise Violated(f"delivered again after its ack: {found}")
    if not acked and [len(positions) for positions in found.values()] != [1]:
        raise Violated(f"one open position each, not {found}")


def crash(world: World, script: Script) -> None:
    sizes = {source: len(log.records) if script.keep else log.flushed for source, log in world.logs.items()}
    kept = max(world.journal_flushed, len(world.journal) - script.forget)
    world.crash(retry=sizes[Source.RETRY], dead=sizes[Source.DEAD], journal=kept)
    check(world)


def finish(world: World, script: Script) -> None:
    """End the move that was begun, as the script says."""
    if script.flush:
        world.flush_log(Source.RETRY)
        world.flush_log(Source.DEAD)
    if script.crash:
        crash(world, script)
    else:
        world.flush()
    check(world)


def fail(world: World, script: Script) -> None:
    """Let a delivery fail; after a crash that forgot the failure, wait for the lease to end."""
    [delivery] = world.receive()
    assert text(delivery) == "a"
    world.nack(delivery.receipt)
    finish(world, script)
    world.clock.advance(LEASE_MS)
    world.tick()
    world.flush()
    check(world)


def forget_ack(world: World) -> None:
    """An ack that was not answered yet is lost: nothing may be deleted on the strength of it."""
    [delivery] = world.receive()
    world.do(c.Ack((delivery.receipt,)))
    world.trim_retry()
    world.crash(journal=world.journal_flushed)
    check(world)
    world.clock.advance(LEASE_MS)
    world.tick()
    world.flush()


def walk(world: World, scripts: tuple[Script, ...], redrive: Script) -> None:
    """Fail until dead, redrive, ack; crash once more."""
    world.publish("a")
    for script in scripts:
        if not world.dead():
            fail(world, script)
    while not world.dead():
        fail(world, SCRIPTS[0])
    world.trim_retry()
    world.redrive(world.dead()[0].offset)
    finish(world, redrive)
    if world.dead():
        world.redrive(world.dead()[0].offset)
        finish(world, SCRIPTS[0])
    world.flush()
    forget_ack(world)
    [delivery] = world.receive()
    world.ack(delivery.receipt)
    world.flush()
    world.trim_retry()
    for _ in range(2):
        world.crash()
        check(world, acked=True)


@pytest.mark.parametrize("first", SCRIPTS, ids=range(len(SCRIPTS)))
def test_a_crash_in_three_failures_neither_loses_nor_doubles(first: Script) -> None:
    for second, third in product(SCRIPTS, repeat=2):
        walk(World(RULES, auto=False), (first, second, third), SCRIPTS[0])


@pytest.mark.parametrize("redrive", SCRIPTS, ids=range(len(SCRIPTS)))
@pytest.mark.parametrize("last", SCRIPTS, ids=range(len(SCRIPTS)))
def test_a_crash_in_a_redrive_neither_loses_nor_doubles(last: Script, redrive: Script) -> None:
    walk(World(RULES, auto=False), (SCRIPTS[0], SCRIPTS[0], last), redrive)


# -- the faults the scripts must catch -----------------------------------------------------------------------------------


class NoteBeforeFlush(World):
    """The copy takes over when it is written."""

    def _append(self, move: Any) -> None:
        super()._append(move)
        written = [entry for entry in self.appended if entry[0] is move]
        self.appended = [entry for entry in self.appended if entry[0] is not move]
        for _, offset in written:
            self.do(Moved(move.token, offset))


class NoScanOnLoad(World):
    """Load trusts the journal alone."""

    def do(self, command: c.LeaseCommand) -> Any:
        return None if isinstance(command, c.TakeOver) else super().do(command)


class TrimByMemory(World):
    """The retry topic is trimmed by what memory knows."""

    def trim_retry(self) -> None:
        log = self.logs[Source.RETRY]
        for offset in range(min(self.machine.floor(Source.RETRY), log.flushed)):
            log.records[offset] = None

    def flush_log(self, source: Source) -> None:
        super().flush_log(source)
        self.trim_retry()


class AckBeforeFlush(World):
    """An ack is answered before its event is flushed: what the crash after it keeps is not what was promised."""

    def ack(self, *receipts: Any) -> list[Any]:
        flushed = self.journal_flushed
        results = super().ack(*receipts)
        del self.journal[flushed:]
        return results


@pytest.mark.parametrize("broken", [NoteBeforeFlush, NoScanOnLoad, TrimByMemory, AckBeforeFlush], ids=lambda b: b.__name__)
def test_the_scripts_catch_each_fault(broken: type[World]) -> None:
    with pytest.raises((Violated, AssertionError, ValueError)):
        for scripts in product(SCRIPTS, repeat=3):
            walk(broken(RULES, auto=False), scripts, SCRIPTS[0])


def test_replay_gives_the_same_hard_state_and_so_does_a_snapshot() -> None:
    world = World(RULES)
    world.publish(*"abcdefgh")
    a, b, d, e, *_ = world.receive(8)
    world.ack(b.receipt, e.receipt)
    world.nack(a.receipt)
    world.do(c.Release((d.receipt,)))
    replayed = world.replayed(world.journal)
    assert hard(replayed) == hard(world.machine)
    restored = World(RULES).machine
    for event in world.machine.snapshot():
        restored.apply(event)
    assert hard(restored) == hard(world.machine)


def hard(machine: LeaseMachine) -> Any:
    return machine._state.hard


def test_a_machine_to_which_nothing_happened_has_no_snapshot() -> None:
    assert list(World().machine.snapshot()) == []


def test_what_time_leads_to_is_decided_and_not_done() -> None:
    world = World()
    world.publish("a")
    world.receive()
    world.clock.advance(LEASE_MS)
    decisions: list[Decision[Any]] = [world.machine.expire(world.clock.now()) for _ in range(2)]
    assert decisions[0].moves == decisions[1].moves
    assert len(decisions[0].moves) == 1


def test_copies_that_become_durable_out_of_order_all_take_over() -> None:
    for crash_between in (False, True):
        world = World(RULES, auto=False)
        world.publish("a", "b", "c")
        for delivery in world.receive(3):
            world.nack(delivery.receipt)
        world.logs[Source.RETRY].flushed = 3
        moves = [world.appended.pop() for _ in range(3)]
        for move, offset in moves:
            world.do(Moved(move.token, offset))
            if crash_between:
                world.crash()
                break
        assert sorted(world.open_positions()) == ["a", "b", "c"]
        assert sorted((text(d), d.message.failures) for d in world.receive(5)) == [("a", 1), ("b", 1), ("c", 1)]


def test_a_redrive_found_before_the_dead_letter_it_replaces_settles_the_whole_chain() -> None:
    world = World(RULES, auto=False)
    world.publish("a")
    world.reject(world.one().receipt, "no")
    world.flush_log(Source.DEAD)
    world.redrive(0)
    world.crash(journal=0)
    check(world)
    assert world.open_positions() == {"a": [(Source.RETRY, 0)]}
    assert world.machine.dead == 0
