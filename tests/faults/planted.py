"""Bugs that are planted, one at a time, and the harness that must catch each: one that finds nothing in these is not valid.

What lives here: the bugs as patches, in the harness only, and the short run that is to catch each. What may not: a change
of the product. ``caught`` says for each bug what was found.
"""

import errno
import os
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest

from logbroker.engine.partition import Partition
from logbroker.errors import StorageError
from logbroker.journal.answers import Answers
from logbroker.journal.records import EventCodec
from logbroker.log import walk
from logbroker.log.files import Files
from logbroker.log.files.crashes import flushed_only
from logbroker.log.files.faults import SYNC, FaultFiles
from logbroker.log.flushing import FlushTicket
from logbroker.log.index import SparseIndex
from logbroker.log.names import CLEANED, SWAP
from logbroker.log.place import Place
from logbroker.log.recovery import _Recovery
from logbroker.log.segment import Segment
from logbroker.machine import HardEvent
from logbroker.model import Record
from logbroker.queues.events import Leased
from tests.faults.corruption import every_byte_past_the_recovery_point, every_damage_of_an_index
from tests.faults.life import LONG, recorded
from tests.faults.replay import judge
from tests.faults.simulation import attempted, simulate
from tests.faults.verdict import violations

Plant = Callable[[pytest.MonkeyPatch], None]


def no_fsync(patch: pytest.MonkeyPatch) -> None:
    """Flushes are answered and not done."""
    patch.setattr(FlushTicket, "sync", lambda self: None)


def ack_before_fsync(patch: pytest.MonkeyPatch) -> None:
    """A produce is answered when it is written."""
    patch.setattr(Partition, "acknowledges_flushed_only", property(lambda self: False))


def no_directory_fsync(patch: pytest.MonkeyPatch) -> None:
    """New names are never flushed."""
    patch.setattr(FaultFiles, "sync_dir", lambda self, path: None)


def rename_before_sync(patch: pytest.MonkeyPatch) -> None:
    """A new catalogue takes the old one's name before its content is flushed."""

    def hasty(files: Files, path: str, data: bytes) -> None:
        if files.exists(f"{path}.tmp"):
            files.unlink(f"{path}.tmp")
        file = files.create(f"{path}.tmp")
        file.append([data])
        files.rename(f"{path}.tmp", path)
        files.sync_dir(path.rpartition("/")[0])

    patch.setattr("logbroker.engine.datadir.replace_atomically", hasty)


def fsync_retried(patch: pytest.MonkeyPatch) -> None:
    """A flush that fails is tried again, and the second success is believed."""
    sync = FlushTicket.sync

    def stubborn(self: FlushTicket) -> None:
        try:
            sync(self)
        except StorageError:
            sync(self)

    patch.setattr(FlushTicket, "sync", stubborn)


def crc_off(patch: pytest.MonkeyPatch) -> None:
    """Batches are not checked when read back."""
    patch.setattr(walk, "check_batch", lambda *args, **kwargs: None)


def index_trusted(patch: pytest.MonkeyPatch) -> None:
    """Whatever an index says is where a reader goes."""
    patch.setattr(SparseIndex, "is_whole", lambda self: True)
    patch.setattr(Segment, "index_lies", property(lambda self: False, lambda self, value: None))


def dedup_not_rebuilt(patch: pytest.MonkeyPatch) -> None:
    """The windows of idempotent producers are not rebuilt from the log."""
    patch.setattr(_Recovery, "_remember", lambda self, header: None)


def commit_acked_early(patch: pytest.MonkeyPatch) -> None:
    """A commit, and whatever else a journal answers, is answered before its event is flushed."""
    give = Answers.give

    def hasty(self: Answers[Any], decision: Any, future: Any, needs_offset: int) -> None:
        give(self, decision, future, 0)

    patch.setattr(Answers, "give", hasty)


def truncation_in_mid_log(patch: pytest.MonkeyPatch) -> None:
    """A start cuts the log off at the first bad batch, wherever it is."""
    patch.setattr(_Recovery, "_judge", lambda *args, **kwargs: None)


def lease_not_persisted(patch: pytest.MonkeyPatch) -> None:
    """Who holds what is known in memory only."""
    encode = EventCodec.events

    def forgetful(self: EventCodec, name: str, events: Sequence[HardEvent]) -> Record:
        return encode(self, name, [event for event in events if not isinstance(event, Leased)])

    patch.setattr(EventCodec, "events", forgetful)


def swap_mishandled(patch: pytest.MonkeyPatch) -> None:
    """A start takes a committed copy for one that was not, and removes it."""

    def remove(place: Place) -> bool:
        for name in place.files.listdir(place.path):
            if name.endswith((SWAP, CLEANED)):
                place.files.unlink(place.at(name))
        return True

    patch.setattr("logbroker.log.recovery.recover_swaps", remove)


# -- what catches them -----------------------------------------------------------------------------------------------


def by_replay(*steps: str) -> list[str]:
    """A life cut off after each operation of its last step."""
    return simulate(judge(steps, random.Random(1), stop_at_first=True)).violations


def by_failing_flushes() -> list[str]:
    """A life in which one flush of a file fails, for each of them, and then the power."""
    found: list[str] = []
    for number in range(40):
        found += simulate(_with_a_failing_flush(number))
        if found:
            break
    return found


async def _with_a_failing_flush(number: int) -> list[str]:
    life, files = await recorded()
    files.fail_next(SYNC, OSError(errno.EIO, os.strerror(errno.EIO)), after=number)
    for name in ("produce", "commit", "ack", "produce"):
        if not life.running.engine.failed.done():
            await attempted(LONG[name](life))
    left = flushed_only(files.operations)
    return await violations(life.ledger, life.moment(), left, life.running.clock.now().wall_ms)


class Control(NamedTuple):
    """A bug, and a short run that must find it."""

    plant: Plant
    catch: Callable[[], Sequence[str]]


CONTROLS: dict[str, Control] = {
    "no fsync": Control(no_fsync, lambda: by_replay("produce")),
    "ack before fsync": Control(ack_before_fsync, lambda: by_replay("produce")),
    "no directory fsync": Control(no_directory_fsync, lambda: by_replay("create")),
    "rename before sync": Control(rename_before_sync, lambda: by_replay("create")),
    "fsync retry": Control(fsync_retried, by_failing_flushes),
    "CRC off": Control(crc_off, lambda: by_replay("produce large")),
    "index trusted blindly": Control(index_trusted, lambda: every_damage_of_an_index().violations),
    "dedup state not rebuilt": Control(dedup_not_rebuilt, lambda: by_replay("produce once")),
    "commit acked early": Control(commit_acked_early, lambda: by_replay("commit")),
    "truncation in mid-log": Control(
        truncation_in_mid_log, lambda: every_byte_past_the_recovery_point(every=50).violations
    ),
    ".swap mishandled": Control(swap_mishandled, lambda: by_replay("compact")),
    "lease not persisted": Control(lease_not_persisted, lambda: by_replay("lease")),
}
"""The bugs of the list, by name."""


def caught(name: str) -> Sequence[str]:
    """Plant a bug and return what was found; nothing if it was not caught."""
    control = CONTROLS[name]
    with pytest.MonkeyPatch.context() as patch:
        control.plant(patch)
        try:
            return control.catch()
        except Exception as error:
            return [f"{type(error).__name__}: {error}"]
