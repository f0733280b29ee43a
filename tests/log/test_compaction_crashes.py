"""No crash around a swap, and no kill of the cleaner, leaves a hole, a record twice, or a log that cannot be opened.

Power is cut after every operation of a compaction; the disk may then hold any part of what was not flushed. The controls
plant a bug each and must be caught.
"""

import itertools
import random
import sys
from collections.abc import Callable, Iterator

import pytest

from logbroker.errors import LogbrokerError, StorageError
from logbroker.log.compaction import swap
from logbroker.log.compaction.cleaner import Cleaner
from logbroker.log.files.crashes import crash_states
from logbroker.log.files.faults import FaultFile, FaultFiles
from logbroker.log.files.memory import MemoryFiles
from logbroker.log.names import LOG, SWAP, file_name, sort_out
from logbroker.log.place import Place
from logbroker.log.verify import DAMAGE, verify_partition
from logbroker.model import Now
from tests.log.compacting import SETTINGS, Found, compact, everything, keyed
from tests.log.helpers import NOW, PATH, flush, open_log

LATER = Now(NOW.wall_ms + 5000, 5000)
CONFIG = {**SETTINGS, "segment_bytes": 330, "index_interval_bytes": 100}


class Life:
    """A log that was written and is compacted twice, with what it must hold at each point."""

    def __init__(self) -> None:
        self.files = FaultFiles()
        log = open_log(self.files, NOW, **CONFIG)
        number = itertools.count()
        for _ in range(2):
            for key in b"abcabdabce":
                log.append(keyed((bytes([key]), b"%d" % next(number) * 8), timestamp_ms=NOW.wall_ms), NOW)
                if next(number) % 3 == 0:
                    log.roll(NOW)
            log.append(keyed((b"a", None), timestamp_ms=NOW.wall_ms), NOW)
            log.roll(NOW)
            log.append(keyed((b"active", b"%d" % next(number)), timestamp_ms=NOW.wall_ms), NOW)
            flush(log)
        self.first = len(self.files.operations)
        self.before = everything(log)
        compact(self.files, log, LATER)
        self.after = everything(log)
        self.log = log


def violations(life: Life, files: MemoryFiles) -> Iterator[str]:
    """What a start after a crash finds wrong."""
    try:
        log = open_log(files, LATER, **CONFIG)
        found = everything(log)
        yield from _content(life, found)
        if any(name.endswith((".cleaned", ".swap")) for name in files.listdir(PATH)):
            yield "leftovers stay"
        compact(files, log, LATER)
        if everything(log) != life.after:
            yield "compacting again does not lead to the same"
        log.append(keyed((b"new", b"x"), timestamp_ms=LATER.wall_ms), LATER)
        log.close()
        yield from (one.message for one in verify_partition(files, PATH) if one.severity == DAMAGE)
        if everything(open_log(files, LATER, **CONFIG))[:-1] != life.after:
            yield "a stop and start changes it"
    except (LogbrokerError, AssertionError) as error:
        yield f"{type(error).__name__}: {error}"


def _content(life: Life, found: list[Found]) -> Iterator[str]:
    offsets = [one[0] for one in found]
    if offsets != sorted(set(offsets)):
        yield f"offsets {offsets}"
    if lost := set(life.after) - set(found):
        yield f"lost: {sorted(lost)}"
    if made_up := set(found) - set(life.before):
        yield f"made up: {sorted(made_up)}"


def judge(life: Life, *, subsets: int = 2) -> tuple[int, list[str]]:
    """Cut the power after every operation from the start of the compaction on."""
    rng = random.Random(1)
    states = 0
    found: list[str] = []
    for count in range(life.first, len(life.files.operations) + 1):
        for state in crash_states(life.files.operations[:count], rng, subsets=subsets):
            states += 1
            found += [f"after {count}, {state.name}: {why}" for why in violations(life, state.files)]
            if found:
                return states, found
    return states, found


def test_no_crash_during_a_compaction_loses_or_doubles_a_record() -> None:
    life = Life()
    assert len(life.before) > len(life.after) + 5
    states, found = judge(life)
    assert found == []
    assert states > 500


def test_no_crash_during_the_recovery_from_a_crash_does_either() -> None:
    life = Life()
    rng = random.Random(2)
    swapping = [number for number, one in enumerate(life.files.operations) if one.new_path.endswith(SWAP)]
    states = 0
    for state in crash_states(life.files.operations[: swapping[-1] + 2], rng, subsets=3):
        files = FaultFiles(state.files)
        start = len(files.operations)
        open_log(files, LATER, **CONFIG)
        for count in range(start, len(files.operations) + 1):
            for second in crash_states(files.operations[:count], rng, subsets=1):
                states += 1
                assert list(violations(life, second.files)) == [], (state.name, count, second.name)
    assert states > 200


def test_an_error_at_any_call_of_a_compaction_leaves_what_a_start_can_read() -> None:
    number = 0
    while True:
        life = Life.__new__(Life)
        Life.__init__(life)
        log = life.log
        log.append(keyed((b"b", b"again"), timestamp_ms=LATER.wall_ms), LATER)
        log.roll(LATER)
        log.append(keyed((b"active", b"more"), timestamp_ms=LATER.wall_ms), LATER)
        flush(log)
        life.before = everything(log)
        life.files.fail_next(None, OSError(5, "Input/output error"), after=number)
        try:
            compact(life.files, log, LATER)
        except StorageError:
            life.files.heal()
            life.after = [one for one in life.before if one[0] >= 22 or one in _compacted(life)]
            log = open_log(life.files, LATER, **CONFIG)
            assert not list(_content(life, everything(log))), number
            number += 1
        else:
            break
    assert number > 20


def _compacted(life: Life) -> list[Found]:
    last = {key: offset for offset, key, _, _ in life.before[:-1]}
    return [one for one in life.before if last.get(one[1]) == one[0]]


@pytest.mark.parametrize("after", range(0, 200, 7))
def test_a_cleaner_that_is_killed_leaves_everything_as_it_was(after: int) -> None:
    files = MemoryFiles()
    log = open_log(files, NOW, **CONFIG)
    for number in range(30):
        log.append(keyed((b"%d" % (number % 4), b"x" * 20), timestamp_ms=NOW.wall_ms), NOW)
    flush(log)
    before = everything(log)
    planned = log.plan_compaction(LATER, 1000)
    assert planned is not None
    job = log.compaction_job(planned, LATER, 1 << 16, 1 << 40)
    list(itertools.islice(Cleaner(files, job).run(), after))
    assert everything(log) == before
    log.close()
    again = open_log(files, LATER, **CONFIG)
    assert everything(again) == before
    assert not [name for name in files.listdir(PATH) if name.endswith(".cleaned")]


# -- planted bugs ----------------------------------------------------------------------------------------------------


def _nothing(*_: object, **__: object) -> None:
    return None


def _sidecars_before_the_swap_counts(original: Callable[..., bool]) -> Callable[..., bool]:
    def recover(place: Place) -> bool:
        for base in sort_out(place.files.listdir(place.path)).swaps:
            place.files.unlink(place.at(file_name(base, LOG) + SWAP))  # "it was not finished, so take it back"
        return original(place)

    return recover


PLANTED: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a swap is thrown away by the recovery": lambda patch: patch.setattr(
        "logbroker.log.recovery.recover_swaps", _sidecars_before_the_swap_counts(swap.recover_swaps)
    ),
    "the recovery looks at no swap": lambda patch: patch.setattr("logbroker.log.recovery.recover_swaps", _nothing),
    "copies are not flushed": lambda patch: patch.setattr(FaultFile, "fdatasync", _nothing),
    "no directory is flushed": lambda patch: patch.setattr(FaultFiles, "sync_dir", _nothing),
    "a segment that was replaced stays": lambda patch: patch.setattr(swap, "_remove", _nothing),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTED[bug](monkeypatch)
    try:
        _, found = judge(Life())
    except (LogbrokerError, AssertionError) as error:
        found = [str(error)]
    assert found


def test_a_commit_that_is_not_flushed_before_the_rest_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the flush in between, the old segments may be gone and the copy not yet there."""
    original = Place.sync
    monkeypatch.setattr(Place, "sync", lambda place: None if _from_compaction() else original(place))
    _, found = judge(Life())
    assert found


def _from_compaction() -> bool:
    frame = sys._getframe(2)
    return str(frame.f_globals["__name__"]) == "logbroker.log.compaction.swap"
