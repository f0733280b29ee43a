"""The line between a torn tail and damage.

Pure: looks at bytes, changes nothing. The rule, which the README states because it decides what is cut off: past the
recovery point, a stretch without a valid batch

- that ends the file was never flushed: it is a torn tail;
- that holds a 512-byte sector which was never written (all zeros) was never flushed either, since a crash may leave any
  subset of the sectors written since the last flush: it is a torn tail, even if a valid batch follows;
- in all other cases, when a valid batch follows, was changed after it was written: that is damage.

A sector counts as never written from the start of the stretch on if its front holds an earlier batch, because sectors
are written as they stood at some boundary of appends. A stretch that starts so close to the end of its sector that
zeros there say nothing (the first bytes of a base offset are zeros) is not judged by that sector.
"""

import re

from logbroker.errors import CorruptMessage
from logbroker.records.batch import check_batch, parse_header

SECTOR = 512

_MAGIC_AT = 16
_LENGTH_ENDS_AT = 12
_MAGIC = re.compile(rb"\x02")
_ZEROS = bytes(SECTOR)
_OFFSET_RANGE = 1 << 31


def next_batch(log: memoryview, start: int, expected_offset: int) -> int | None:
    """The position of the first valid batch at or after ``start`` that may belong behind ``expected_offset``."""
    for magic in _MAGIC.finditer(log, start + _MAGIC_AT):
        position = magic.start() - _MAGIC_AT
        base_offset = int.from_bytes(log[position : position + 8], "big")
        if not 0 <= base_offset - expected_offset < _OFFSET_RANGE:
            continue
        try:
            check_batch(log, position, parse_header(log, position), dense=False)
        except CorruptMessage:
            continue
        return position
    return None


def has_unwritten_sector(log: memoryview, start: int, stop: int, expected_offset: int) -> bool:
    """Whether a sector that reaches into ``log[start:stop]`` was never written."""
    sector = start - start % SECTOR
    if sector < start:
        rest = log[start : sector + SECTOR]
        if rest == _ZEROS[: len(rest)] and _zeros_are_wrong(len(rest), expected_offset):
            return True
        sector += SECTOR
    return any(log[at : at + SECTOR] == _ZEROS[: len(log) - at] for at in range(sector, stop, SECTOR))


def _zeros_are_wrong(count: int, expected_offset: int) -> bool:
    """Whether a batch of that offset cannot start with ``count`` zeros."""
    return count >= _LENGTH_ENDS_AT or any(expected_offset.to_bytes(8, "big")[:count])
