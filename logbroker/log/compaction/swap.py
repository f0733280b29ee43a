"""Putting compacted copies in the place of the segments they were made from, so that no crash leaves a hole or a mixture.

1. ``Swap.commit``: ``X.log.cleaned`` becomes ``X.log.swap``, and that is flushed; the copy was flushed when it was made.
   From here on it counts, whatever happens.
2. ``complete``: the segments behind X that it replaces go, the index files and the digest of the copy take the names of
   X's; that is flushed; then ``X.log.swap`` becomes ``X.log``.

A start that finds a ``.swap`` completes it, and removes every ``.cleaned`` besides (Kafka's recovery). Which segments a
copy replaces is said by its digest: those that begin in front of where it ends.

What lives here: these steps. What may not: which segments to compact, readers, segments in memory.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from logbroker.errors import PartitionDamaged
from logbroker.log.compaction.job import Output
from logbroker.log.names import ABORTED_INDEX, CLEANED, DIGEST, LOG, SEGMENT_KINDS, SWAP, file_name, sort_out
from logbroker.log.place import Place
from logbroker.log.state import DIGEST_SIZE, SegmentState, decode_digest


class Swap(NamedTuple):
    """Copies that are to take their place."""

    place: Place
    outputs: Sequence[Output]

    def commit(self) -> None:
        """Let the copies count. Runs in any thread. Raises StorageError, and then some may and some may not."""
        files, place = self.place.files, self.place
        for output in self.outputs:
            log = file_name(output.base_offset, LOG)
            files.rename(place.at(log + CLEANED), place.at(log + SWAP))
        if self.outputs:
            place.sync()


def complete(place: Place, base: int, replaced: Iterable[int]) -> None:
    """Let the committed copy take the place of the segment at ``base``, and remove those it ``replaced`` besides.

    What was done of it before is not done again. Raises StorageError.
    """
    files = place.files
    for other in replaced:
        # The log goes last: what is left of a removal that a crash has cut short is then seen to belong to something.
        for kind in reversed(SEGMENT_KINDS):
            _remove(place, file_name(other, kind))
    for kind in SEGMENT_KINDS[1:]:
        made = place.at(file_name(base, kind) + CLEANED)
        if files.exists(made):
            files.rename(made, place.at(file_name(base, kind)))
        elif kind == ABORTED_INDEX:
            _remove(place, file_name(base, kind))
    place.sync()
    files.rename(place.at(file_name(base, LOG) + SWAP), place.at(file_name(base, LOG)))


def recover_swaps(place: Place) -> bool:
    """Finish or take back what a crash has interrupted. Returns whether there was anything. Raises as ``complete``."""
    listing = sort_out(place.files.listdir(place.path))
    for base in listing.swaps:
        end = _digest_of_swap(place, base).next_offset
        # Sidecars of a segment whose log is gone already are swept up with it.
        named = {*listing.logs, *(offset for kind in SEGMENT_KINDS[1:] for offset in listing.kinds[kind])}
        complete(place, base, sorted(one for one in named if base < one < end))
    for name in sort_out(place.files.listdir(place.path)).cleaned:
        _remove(place, name)
    if listing.swaps or listing.cleaned:
        place.sync()
    return bool(listing.swaps)


def remove_copies(place: Place, bases: Iterable[int] | None = None) -> None:
    """Remove the copies at ``bases`` that were made and not committed; all of them where none are named."""
    names = sort_out(place.files.listdir(place.path)).cleaned
    wanted = None if bases is None else {f"{base:020d}" for base in bases}
    for name in names:
        if wanted is None or name[:20] in wanted:
            _remove(place, name)


def _digest_of_swap(place: Place, base: int) -> SegmentState:
    """The digest that belongs to the copy, which has its own name or already that of the segment."""
    size = place.files.size(place.at(file_name(base, LOG) + SWAP))
    for name in (file_name(base, DIGEST) + CLEANED, file_name(base, DIGEST)):
        if not place.files.exists(place.at(name)):
            continue
        file = place.files.open(place.at(name))
        try:
            state = decode_digest(file.pread(DIGEST_SIZE + 1, 0))
        finally:
            file.close()
        if state is not None and (state.base_offset, state.size) == (base, size):
            return state
    raise PartitionDamaged(
        f"{place.at(file_name(base, LOG) + SWAP)} has no digest that fits it, so nobody knows what it replaces. "
        "Restore the digest from a backup; nothing was changed",
        file=place.at(file_name(base, LOG) + SWAP),
    )


def _remove(place: Place, name: str) -> None:
    if place.files.exists(place.at(name)):
        place.files.unlink(place.at(name))
