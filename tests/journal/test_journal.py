"""The shell: order of writing, applying and answering; failures; snapshots; crashes at every point."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logbroker.clock import ManualClock
from logbroker.config import BrokerConfig, TopicConfig
from logbroker.engine.api import Engine
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.errors import (
    AppendUnknown,
    DataDirectoryError,
    DiskFull,
    InvalidRequest,
    LogbrokerError,
    PartitionDamaged,
    Recovering,
    WriterFenced,
)
from logbroker.journal import EngineMover, Journal, snapshots
from logbroker.log.files.memory import MemoryFiles
from logbroker.model import Record, TopicPartition
from tests.engine.fake import FakeEngine
from tests.journal.tally import (
    KIND,
    WHERE,
    Add,
    AwaitNext,
    Break,
    Clear,
    Command,
    CopyOf,
    CrashingEngine,
    Look,
    Numbers,
    Send,
    SetAlarm,
    StallingEngine,
    Tally,
    opened,
)

pytestmark = pytest.mark.asyncio

OTHER = TopicPartition("other", 0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture(params=["memory", "fake"])
async def engine(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Engine]:
    if request.param == "fake":
        yield FakeEngine(clock)
        return
    embedded = EmbeddedEngine(MemoryFiles(), BrokerConfig(), TopicConfig(), clock)
    await embedded.start()
    yield embedded
    await embedded.stop()


async def turn(times: int = 20) -> None:
    """Let the loop run without time passing."""
    for _ in range(times):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop, and threads that flush, run until ``condition`` holds."""
    for attempt in range(1_000):
        if condition():
            return
        await asyncio.sleep(0 if attempt < 900 else 0.01)
    raise AssertionError("it never came to that")


# -- the ordinary way ----------------------------------------------------------------------------------------------------


async def test_what_was_decided_is_there_after_a_restart(engine: Engine, clock: ManualClock) -> None:
    journal = await opened(engine, clock)
    assert await journal.ask("a", Add(1)) == (1,)
    assert await journal.ask("a", Add(2)) == (1, 2)
    assert await journal.ask("b", Add(3)) == (3,)
    await journal.close()
    journal = await opened(engine, clock)
    assert await journal.ask("a", Look()) == (1, 2)
    assert await journal.ask("b", Look()) == (3,)
    assert all(tally.resumed for _, tally in journal.machines())
    await journal.close()


async def test_machines_share_a_batch_and_one_machine_decides_in_order(clock: ManualClock) -> None:
    engine = FakeEngine(clock)
    journal = await opened(engine, clock)
    asks = [journal.ask(name, Add(number)) for name in "ab" for number in (1, 2)]
    assert await asyncio.gather(*asks) == [(1,), (1, 2), (1,), (1, 2)]
    # Two machines side by side, twice; the first batch holds the snapshots that the machines stand on as well.
    assert [count for _, count in engine.appends] == [4, 2]
    await journal.close()


async def test_a_refusal_is_raised_and_writes_nothing(engine: Engine, clock: ManualClock) -> None:
    journal = await opened(engine, clock)
    with pytest.raises(InvalidRequest):
        await journal.ask("a", Add(-1))
    assert (await engine.bounds(WHERE)).high_watermark == 0
    await journal.close()


async def test_a_machine_that_cannot_decide_harms_nobody_else(engine: Engine, clock: ManualClock) -> None:
    journal = await opened(engine, clock)
    await journal.ask("a", Add(1))
    with pytest.raises(LogbrokerError):
        await journal.ask("a", Break())
    assert await journal.ask("a", Add(2)) == (1, 2)
    await journal.close()


async def test_a_parked_caller_is_answered_by_a_later_decision(engine: Engine, clock: ManualClock) -> None:
    journal = await opened(engine, clock)
    waiting = asyncio.ensure_future(journal.ask("a", AwaitNext(journal.new_token())))
    await turn()
    assert not waiting.done()
    await journal.ask("a", Add(7))
    assert await waiting == (7,)
    await journal.close()


async def test_a_caller_that_left_before_the_decision_has_asked_nothing(engine: Engine, clock: ManualClock) -> None:
    journal = await opened(engine, clock)
    asking = asyncio.ensure_future(journal.ask("a", Add(1)))
    await asyncio.sleep(0)
    asking.cancel()
    assert await journal.ask("a", Look()) == ()
    await journal.close()


async def test_a_caller_that_left_while_parked_is_forgotten(engine: Engine, clock: ManualClock) -> None:
    journal = await opened(engine, clock)
    waiting = asyncio.ensure_future(journal.ask("a", AwaitNext(journal.new_token())))
    await turn()
    waiting.cancel()
    assert await journal.ask("a", Add(1)) == (1,)
    await journal.close()


async def test_deadlines_come_up_by_the_injected_clock(engine: Engine, clock: ManualClock) -> None:
    journal = await opened(engine, clock)
    await journal.ask("a", SetAlarm(500))
    clock.advance(499)
    journal.wake()
    assert await journal.ask("a", Look()) == ()
    clock.advance(1)
    journal.wake()
    await turn()
    assert await journal.ask("a", Look()) == (1000,)
    await journal.close()


async def test_a_vacant_machine_is_dropped_and_may_come_back(engine: Engine, clock: ManualClock) -> None:
    journal = await opened(engine, clock)
    await journal.ask("a", Look())
    assert list(journal.machines()) == []
    await journal.ask("a", Add(1))
    await journal.ask("a", Clear())
    assert list(journal.machines()) == []
    await journal.ask("a", Add(2))
    await journal.close()
    journal = await opened(engine, clock)
    assert await journal.ask("a", Look()) == (2,)
    await journal.close()


# -- flushes -------------------------------------------------------------------------------------------------------------


async def test_answers_wait_for_the_flush_and_decisions_do_not(clock: ManualClock) -> None:
    engine = StallingEngine(clock)
    journal = await opened(engine, clock)
    asks = [asyncio.ensure_future(journal.ask("a", command)) for command in (Add(1), Add(2), Look())]
    elsewhere = asyncio.ensure_future(journal.ask("b", Look()))
    await turn()
    assert [ask.done() for ask in asks] == [False, False, False]
    assert dict(journal.machines())["a"].numbers == [1, 2]
    # A machine that has written nothing has nothing to wait for.
    assert await elsewhere == ()
    engine.may_flush.set()
    assert await asyncio.gather(*asks) == [(1,), (1, 2), (1, 2)]
    await journal.close()


async def test_flushed_waits_for_all_that_can_be_seen(clock: ManualClock) -> None:
    engine = StallingEngine(clock)
    journal = await opened(engine, clock)
    await journal.ask("a", Add(1, wait_for_flush=False))
    assert journal.machine("a").numbers == [1]
    flushed = asyncio.ensure_future(journal.flushed())
    await turn()
    assert not flushed.done()
    engine.may_flush.set()
    await flushed
    await journal.close()


async def test_no_time_passes_for_machines_that_have_not_resumed(clock: ManualClock) -> None:
    engine = FakeEngine(clock)
    await engine.create_topic(WHERE.topic, 1, {})
    journal: Journal[Tally, Numbers] = Journal(engine, WHERE, KIND, clock)
    await journal.open()
    await journal.ask("a", Add(1))
    await journal.ask("a", SetAlarm(0))
    await turn()
    assert await journal.ask("a", Look()) == (1,)
    journal.resume()
    await turn()
    assert await journal.ask("a", Look()) == (1,)
    assert journal.machine("a").resumed
    await journal.close()


async def test_what_a_power_cut_may_take_back_is_answered_at_once(clock: ManualClock) -> None:
    journal = await opened(StallingEngine(clock), clock)
    assert await journal.ask("a", Add(1, wait_for_flush=False)) == (1,)
    held = asyncio.ensure_future(journal.ask("a", Look()))
    await turn()
    assert not held.done()
    held.cancel()


# -- failures ------------------------------------------------------------------------------------------------------------


async def test_a_write_that_fails_applies_nothing(clock: ManualClock) -> None:
    engine = FakeEngine(clock)
    journal = await opened(engine, clock)
    await journal.ask("a", Add(1))
    waiting = asyncio.ensure_future(journal.ask("a", AwaitNext(journal.new_token())))
    await turn()
    engine.fail_next_append(DiskFull(), WHERE)
    with pytest.raises(DiskFull):
        await journal.ask("a", Add(2))
    assert await journal.ask("a", Look()) == (1,)
    assert not waiting.done()
    assert await journal.ask("a", Add(3)) == (1, 3)
    assert await waiting == (1, 3)
    await journal.close()


async def test_a_deadline_whose_events_could_not_be_written_is_tried_again(clock: ManualClock) -> None:
    engine = FakeEngine(clock)
    journal = await opened(engine, clock)
    await journal.ask("a", SetAlarm(0))
    engine.fail_next_append(DiskFull(), WHERE)
    await turn()
    assert await journal.ask("a", Look()) == ()
    clock.advance(1_000)
    journal.wake()
    await turn()
    assert await journal.ask("a", Look()) == (1000,)
    await journal.close()


@pytest.mark.parametrize("is_written", [True, False])
async def test_an_append_of_which_nobody_knows_is_found_out_about(clock: ManualClock, is_written: bool) -> None:
    engine = StallingEngine(clock)
    engine.may_flush.set()
    journal = await opened(engine, clock)
    await journal.ask("a", Add(1))
    if is_written:
        engine.fail_next_append(AppendUnknown(), WHERE)
        assert await journal.ask("a", Add(2)) == (1, 2)
    else:
        engine.lose_next = True
        with pytest.raises(LogbrokerError, match="did not happen"):
            await journal.ask("a", Add(2))
    numbers = await journal.ask("a", Add(3))
    await journal.close()
    journal = await opened(engine, clock)
    assert await journal.ask("a", Look()) == numbers == ((1, 2, 3) if is_written else (1, 3))
    await journal.close()


async def test_a_journal_that_is_claimed_elsewhere_stops(engine: Engine, clock: ManualClock) -> None:
    first = await opened(engine, clock)
    waiting = asyncio.ensure_future(first.ask("a", AwaitNext(first.new_token())))
    await turn()
    second = await opened(engine, clock)
    for _ in range(2):
        with pytest.raises(WriterFenced):
            await first.ask("a", Add(1))
    with pytest.raises(WriterFenced):
        await waiting
    assert await second.ask("a", Add(2)) == (2,)
    await first.close()
    await second.close()


async def test_closing_answers_what_is_written_and_sends_the_others_away(clock: ManualClock) -> None:
    engine = StallingEngine(clock)
    journal = await opened(engine, clock)
    written = asyncio.ensure_future(journal.ask("a", Add(1)))
    parked = asyncio.ensure_future(journal.ask("b", AwaitNext(journal.new_token())))
    await turn()
    engine.may_flush.set()
    await journal.close()
    assert await written == (1,)
    with pytest.raises(Recovering):
        await parked
    with pytest.raises(Recovering):
        await journal.ask("a", Look())


async def test_a_journal_of_a_newer_version_is_refused(engine: Engine, clock: ManualClock) -> None:
    await engine.create_topic(WHERE.topic, 1, {})
    await engine.append(WHERE, [Record(b"\x02\x00\x90", b"a")])
    with pytest.raises(DataDirectoryError, match="version 2"):
        await opened(engine, clock)


@pytest.mark.parametrize("value", [b"", b"\x01", b"\x01\x00\xff", b"\x01\x00\x91\x91\xa4none", None])
async def test_what_is_no_journal_record_is_damage_not_silence(clock: ManualClock, value: bytes | None) -> None:
    engine = FakeEngine(clock)
    await engine.create_topic(WHERE.topic, 1, {})
    await engine.append(WHERE, [Record(value, b"a")])
    with pytest.raises(PartitionDamaged, match="offset 0"):
        await opened(engine, clock)


# -- moves ---------------------------------------------------------------------------------------------------------------


async def test_a_move_is_reported_back_once_it_is_durable(engine: Engine, clock: ManualClock) -> None:
    journal = await opened(engine, clock, EngineMover(engine))
    await engine.create_topic(OTHER.topic, 1, {})
    appended = await engine.append(OTHER, [Record(b"original")])
    await journal.ask("a", Send(OTHER, CopyOf((OTHER, appended.base_offset))))
    await until(lambda: any(tally.numbers for _, tally in journal.machines()))
    (offset,) = await journal.ask("a", Look()) or ()
    read = await engine.read(OTHER, offset, max_bytes=1_000)
    assert read.records[0].value == b"ORIGINAL"
    await journal.close()


@pytest.mark.parametrize("record", [Record(b"x"), CopyOf((OTHER, 0))])
async def test_a_move_that_fails_is_reported_back(engine: Engine, clock: ManualClock, record: Record | CopyOf) -> None:
    journal = await opened(engine, clock, EngineMover(engine))
    await journal.ask("a", Send(OTHER, record))
    await turn()
    assert await journal.ask("a", Look()) == (-1,)
    await journal.close()


async def test_a_move_of_which_nobody_knows_is_looked_for(clock: ManualClock) -> None:
    engine = FakeEngine(clock)
    journal = await opened(engine, clock, EngineMover(engine))
    await engine.create_topic(OTHER.topic, 1, {})
    await engine.append(OTHER, [Record(b"before")])
    engine.fail_next_append(AppendUnknown(), OTHER)
    await journal.ask("a", Send(OTHER, Record(b"moved")))
    await turn()
    assert await journal.ask("a", Look()) == (2,)
    await journal.close()


# -- snapshots and crashes -----------------------------------------------------------------------------------------------


@pytest.fixture
def small_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass every few events, in pieces of a few events."""
    monkeypatch.setattr(snapshots, "SNAPSHOT_EVENTS", 7)
    monkeypatch.setattr(snapshots, "PIECE_BYTES", 24)
    monkeypatch.setattr("logbroker.journal.records.PIECE_BYTES", 24)


@pytest.mark.usefixtures("small_snapshots")
async def test_a_long_life_leaves_a_short_log(engine: Engine, clock: ManualClock) -> None:
    journal = await opened(engine, clock)
    for number in range(100):
        await journal.ask("abc"[number % 3], Add(number))
        if number % 10 == 9:
            await journal.ask("abc"[number % 3], Clear())
    await turn()
    bounds = await engine.bounds(WHERE)
    assert bounds.high_watermark > 150
    assert bounds.high_watermark - bounds.log_start_offset < 100
    before = {name: list(tally.numbers) for name, tally in journal.machines()}
    await journal.close()
    journal = await opened(engine, clock)
    await turn()
    assert {name: tally.numbers for name, tally in journal.machines()} == before
    await journal.close()


@pytest.mark.usefixtures("small_snapshots")
async def test_a_snapshot_that_cannot_be_written_is_given_up_and_tried_again(clock: ManualClock) -> None:
    engine = FakeEngine(clock)
    journal = await opened(engine, clock)
    for number in range(6):
        await journal.ask("a", Add(number))
    asking = asyncio.ensure_future(journal.ask("a", Add(6)))
    await until(lambda: len(engine.appends) == 7)
    engine.fail_next_append(DiskFull(), WHERE)
    await asking
    await turn()
    assert (await engine.bounds(WHERE)).log_start_offset == 0
    for number in range(7, 14):
        await journal.ask("a", Add(number))
    await turn()
    assert (await engine.bounds(WHERE)).log_start_offset > 0
    await journal.close()
    journal = await opened(engine, clock)
    assert await journal.ask("a", Look()) == tuple(range(14))
    await journal.close()


@pytest.mark.usefixtures("small_snapshots")
async def test_a_log_that_cannot_be_trimmed_stays_longer_and_nothing_else(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine(clock)
    journal = await opened(engine, clock)

    async def refuse(where: TopicPartition, before_offset: int) -> int:
        raise DiskFull

    with monkeypatch.context() as patch:
        patch.setattr(engine, "trim", refuse)
        for number in range(10):
            await journal.ask("a", Add(number))
        await turn()
    assert (await engine.bounds(WHERE)).log_start_offset == 0
    for number in range(10):
        await journal.ask("a", Add(number))
    await turn()
    assert (await engine.bounds(WHERE)).log_start_offset > 0
    await journal.close()


async def play(script: list[tuple[str, Command]]) -> tuple[CrashingEngine, list[tuple[int, str, int]]]:
    """Run ``script`` with everybody asking at once.

    The engine keeps an image of every moment; the list says with which image which step of which machine was answered.
    """
    clock = ManualClock()
    engine = CrashingEngine(clock)
    journal = await opened(engine, clock)
    answered: list[tuple[int, str, int]] = []

    async def ask(name: str, command: Command, step: int) -> None:
        await journal.ask(name, command)
        answered.append((len(engine.images) - 1, name, step))

    steps = dict.fromkeys("abc", 0)
    asks = []
    for name, command in script:
        steps[name] += 1
        asks.append(ask(name, command, steps[name]))
    await asyncio.gather(*asks)
    await turn()
    await journal.close()
    return engine, answered


numbers = st.integers(0, 99)
commands = st.tuples(st.sampled_from("aabc"), numbers.map(lambda number: Add(number) if number > 4 else Clear()))


@pytest.mark.usefixtures("small_snapshots")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(commands, max_size=40))
async def test_a_crash_at_any_point_leaves_each_machine_in_a_state_it_had_and_no_answer_is_lost(
    script: list[tuple[str, Command]],
) -> None:
    engine, answered = await play(script)
    reached = dict.fromkeys("abc", 0)
    for number, image in enumerate(engine.images):
        for at, name, step in answered:
            if at < number:
                reached[name] = max(reached[name], step)
        clock = ManualClock()
        journal = await opened(await image.engine(clock), clock)
        found = {name: tuple(tally.numbers) for name, tally in journal.machines()}
        await journal.close()
        for name in "abc":
            history = histories(script, name)
            # From image to image a machine goes on through its own history, and never back.
            steps = [step for step in range(reached[name], len(history)) if history[step] == found.get(name, ())]
            assert steps, (name, found.get(name), history[reached[name] :])
            reached[name] = steps[0]
    assert all(histories(script, name)[-1] == found.get(name, ()) for name in "abc" if engine.images)


def histories(script: list[tuple[str, Command]], name: str) -> list[Numbers]:
    """The states that a machine goes through."""
    states: list[Numbers] = [()]
    for other, command in script:
        if other == name:
            states.append((*states[-1], command.number) if isinstance(command, Add) else ())
    return states
