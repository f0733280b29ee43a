"""What the files of a partition are called.

Everything that belongs to a segment is named after its base offset in 20 digits, as Kafka does it::

    00000000000000000000.log         record batches                       00000000000000000000.index      see ``index``
    00000000000000000000.digest      see ``state``                        00000000000000000000.timeindex  see ``index``
    00000000000000000000.txnindex    see ``aborted``
    00000000000000000042.producers   producer windows at offset 42, see ``producers``
    checkpoint                       recovery point and log start, see ``checkpoint``
    compacted                        how far the log is compacted, see ``compaction.progress``
    00000000000000000000.log.cleaned   a compacted copy that is being made, and so for the other files of a segment
    00000000000000000000.log.swap      a compacted copy that takes the place of this segment and maybe of the next ones
    00000000000000000000.log.4711.torn   what was cut off a log at position 4711 by a recovery; never touched again

A name that is none of these is left alone and reported: it was put there by somebody who may miss it.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

LOG = "log"
INDEX = "index"
TIME_INDEX = "timeindex"
DIGEST = "digest"
ABORTED_INDEX = "txnindex"
PRODUCERS = "producers"
CHECKPOINT = "checkpoint"
COMPACTED = "compacted"
TORN_SUFFIX = ".torn"
CLEANED = ".cleaned"
SWAP = ".swap"

SEGMENT_KINDS = (LOG, INDEX, TIME_INDEX, DIGEST, ABORTED_INDEX)
_KINDS = (*SEGMENT_KINDS, PRODUCERS)
_NUMBERED = re.compile(rf"(\d{{20}})\.({'|'.join(_KINDS)})({CLEANED}|{SWAP})?")


def file_name(offset: int, kind: str) -> str:
    """The name of a file of a segment (or of a snapshot of producers) at ``offset``."""
    return f"{offset:020d}.{kind}"


def torn_name(name: str, position: int, taken: Iterable[str]) -> str:
    """A name, not among those ``taken``, for what is cut off ``name`` at ``position``."""
    candidate = f"{name}.{position}{TORN_SUFFIX}"
    number = 1
    while candidate in taken:
        number += 1
        candidate = f"{name}.{position}.{number}{TORN_SUFFIX}"
    return candidate


class Listing(NamedTuple):
    """The names in a partition's directory, sorted out. Offsets ascend."""

    logs: list[int]
    kinds: dict[str, list[int]]
    """The offsets of the other numbered files by kind."""
    unknown: list[str]
    swaps: list[int]
    """The segments whose compacted copy was about to take their place."""
    cleaned: list[str]
    """Files of compacted copies that were being made."""


def sort_out(names: Iterable[str]) -> Listing:
    """Tell the files of a partition apart."""
    kinds: dict[str, list[int]] = {kind: [] for kind in _KINDS}
    unknown, swaps, cleaned = [], [], []
    for name in sorted(names):
        found = _NUMBERED.fullmatch(name)
        if found and found[3] == SWAP:
            swaps.append(int(found[1]))
        elif found and found[3] == CLEANED:
            cleaned.append(name)
        elif found:
            kinds[found[2]].append(int(found[1]))
        elif name not in (CHECKPOINT, COMPACTED) and not name.endswith(TORN_SUFFIX):
            unknown.append(name)
    return Listing(kinds.pop(LOG), kinds, unknown, swaps, cleaned)
