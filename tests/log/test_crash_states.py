"""No crash takes back what was flushed, or makes up what was not written.

Every operation of recorded workloads is followed by a power cut, after which the disk may hold any part of what was not
flushed. The controls plant a bug each and must be caught.
"""

import errno
import itertools
import random
from collections.abc import Callable

import pytest

from logbroker.errors import StorageError
from logbroker.log import walk
from logbroker.log.files import replace_atomically
from logbroker.log.files.crashes import crash_states
from logbroker.log.files.faults import FaultFile, FaultFiles
from logbroker.log.flushing import FlushTicket
from logbroker.log.partition import PartitionLog
from logbroker.log.place import Place
from logbroker.log.recovery import _Recovery
from tests.log.crashing import STEPS, Workload, judge, run
from tests.log.helpers import read_bytes

LONG: tuple[Callable[[Workload], None], ...] = (
    Workload.small,
    Workload.idempotent,
    Workload.flush,
    Workload.large,
    Workload.small,
    Workload.flush,
    Workload.large,
    Workload.large,
    Workload.idempotent,
    Workload.flush,
    Workload.trim,
    Workload.small,
    Workload.kill,
    Workload.roll,
    Workload.idempotent,
    Workload.flush,
    Workload.small,
    Workload.reopen,
    Workload.large,
    Workload.trim_all,
    Workload.small,
)


def test_no_crash_in_a_long_life_breaks_a_promise() -> None:
    tally = judge(run(LONG))
    assert tally.violations == []
    assert tally.states > 2000


@pytest.mark.parametrize("length", [1, 2])
def test_no_crash_in_any_short_life_breaks_a_promise(length: int) -> None:
    """Most crash bugs need three steps or fewer (CrashMonkey), so all short workloads are walked.

    They come after a first step that leaves something to lose.
    """
    states = 0
    for steps in itertools.product(STEPS, repeat=length):
        tally = judge(run((Workload.small, *steps)), subsets=1)
        assert tally.violations == [], [step.__name__ for step in steps]
        states += tally.states
    assert states > 800 * length


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_crash_in_any_life_of_three_steps_breaks_a_promise() -> None:
    for steps in itertools.product(STEPS, repeat=3):
        tally = judge(run((Workload.small, *steps)), subsets=1)
        assert tally.violations == [], [step.__name__ for step in steps]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(20))
def test_no_crash_in_random_lives_breaks_a_promise(seed: int) -> None:
    rng = random.Random(seed)
    steps = tuple(rng.choices(STEPS, weights=[4, 4, 4, 4, 1, 1, 1, 1, 1], k=25))
    assert judge(run(steps), seed=seed, subsets=4).violations == []


def test_a_last_write_torn_at_any_byte_breaks_no_promise() -> None:
    workload = run((Workload.small, Workload.flush, Workload.large))
    tally = judge(workload, first=len(workload.files.operations), every_byte=True)
    assert tally.violations == []
    assert tally.states > 1300


def test_writes_torn_at_any_byte_break_no_promise() -> None:
    """Those of the checkpoint above all, which is written in place."""
    steps = (
        Workload.small,
        Workload.flush,
        Workload.trim_all,
        Workload.small,
        Workload.flush,
        Workload.small,
        Workload.flush,
    )
    tally = judge(run(steps), subsets=1, every_byte=True)
    assert tally.violations == []
    assert tally.states > 1500


def test_no_crash_during_recovery_breaks_a_promise() -> None:
    """Power fails again while a start is cutting off a torn tail and setting segments aside."""
    workload = run((Workload.idempotent, Workload.flush, Workload.large, Workload.large, Workload.small, Workload.large))
    promised = workload.promised[-1]
    rng = random.Random(3)
    states = 0
    for state in crash_states(workload.files.operations, rng, subsets=5):
        files = FaultFiles(state.files)
        before = len(files.operations)
        second = Workload(files, workload.values, workload.sequences)
        second.promised = [promised._replace(operations=before)]
        tally = judge(second, first=before, subsets=1, reopened=False)
        assert tally.violations == [], state.name
        states += tally.states
    assert states > 500


def interrupted_at(number: int) -> tuple[Workload, bool]:
    """A life in which the process is killed at its ``number``-th call, comes back, and writes and flushes once more.

    Also returns whether it was killed at all.
    """
    files = FaultFiles()
    files.fail_next(None, OSError(errno.EIO, "killed"), after=number, for_good=True)
    workload: Workload | None = None
    try:
        workload = Workload(files)
        for step in (Workload.idempotent, Workload.flush, Workload.large, Workload.roll, Workload.small, Workload.flush):
            step(workload)
        for step in (Workload.trim_all, Workload.idempotent, Workload.flush, Workload.reopen):
            step(workload)
    except StorageError:
        files.heal()
        workload = workload or Workload(files)
        workload.kill()
        for step in (Workload.small, Workload.flush):
            step(workload)
        return workload, True
    return workload, False


def test_a_kill_at_any_call_and_a_power_cut_after_coming_back_break_no_promise() -> None:
    number = 0
    while True:
        workload, killed = interrupted_at(number)
        if not killed:
            break
        tally = judge(workload, first=len(workload.files.operations), subsets=1)
        assert tally.violations == [], f"killed at call {number}"
        number += 1
    assert number > 60


# -- an atomic replacement -------------------------------------------------------------------------------------------


def replaced(files: FaultFiles) -> set[bytes]:
    """What ``state`` may hold after a crash during its replacement."""
    replace_atomically(files, "state", b"old" * 300)
    before = len(files.operations)
    replace_atomically(files, "state", b"new!" * 300)
    rng = random.Random(1)
    return {
        read_bytes(state.files, "state") if state.files.exists("state") else b""
        for count in range(before, len(files.operations) + 1)
        for state in crash_states(files.operations[:count], rng)
    }


def test_an_atomic_replacement_leaves_old_or_new_and_nothing_else() -> None:
    assert replaced(FaultFiles()) == {b"old" * 300, b"new!" * 300}


def test_control_a_rename_before_the_flush_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FaultFile, "fdatasync", lambda self: None)
    assert len(replaced(FaultFiles())) > 2


# -- controls: a harness that finds nothing in these is not valid ----------------------------------------------------


def no_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FlushTicket, "sync", lambda self: None)


def no_directory_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Place, "sync", lambda self: None)


def checkpoint_before_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = PartitionLog.begin_flush

    def hasty(self: PartitionLog) -> FlushTicket | None:
        ticket = begin(self)
        if ticket is not None:
            self._store_recovery_point(ticket.state, ticket.producers)
        return ticket

    monkeypatch.setattr(PartitionLog, "begin_flush", hasty)


def files_go_before_the_start_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    move = PartitionLog._move_start

    def hasty(self: PartitionLog, offset: int) -> None:
        for segment in self._segments:
            if segment.next_offset <= offset and not segment.active:
                segment.delete()
        self._place.sync()
        move(self, offset)

    monkeypatch.setattr(PartitionLog, "_move_start", hasty)


def checksums_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "check_batch", lambda *args, **kwargs: None)


def producers_not_rebuilt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Recovery, "_remember", lambda self, batch, segment=None: None)


def later_segments_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Recovery, "_is_tail_lost", lambda self, segment, following: False)


def log_start_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PartitionLog, "_move_start", lambda self, offset: setattr(self, "log_start_offset", offset))


def acknowledged_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        PartitionLog, "flushed_offset", property(lambda self: self.end_offset, lambda self, offset: None), raising=False
    )


def what_was_read_is_not_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logbroker.log.recovery.write_again", lambda segment, start: None)


PLANTED = [
    no_flush,
    no_directory_flush,
    checkpoint_before_flush,
    files_go_before_the_start_moves,
    checksums_off,
    producers_not_rebuilt,
    later_segments_kept,
    log_start_forgotten,
    acknowledged_early,
    what_was_read_is_not_flushed,
]


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_control_a_planted_bug_is_caught(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    try:
        found = judge(run(LONG), stop_at_first=True).violations
    except AssertionError as error:
        found = [str(error)]
    assert found
