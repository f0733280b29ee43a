"""Going through the batches of a log file.

What lives here: stepping from header to header to find a place (``spans``), and reading whole batches one after
another (``BatchWalk``). What may not: deciding what to do about a place where it stops; recovery, reading and verify
differ in that.
Invariant: a step is taken only when the header says where the next batch starts and that lies inside the stretch
walked.
"""

from collections.abc import Callable, Iterator
from struct import Struct
from typing import NamedTuple, TypeAlias

from logbroker.errors import CorruptMessage
from logbroker.log.files import Buffer, File
from logbroker.records.batch import HEADER_SIZE, LOG_OVERHEAD, BatchHeader, check_batch, parse_header

SPAN = Struct(">qi11xi8xq")
"""Base offset, length, last offset delta and max timestamp: what a search needs of a header."""

ReadAt: TypeAlias = Callable[[int, int], Buffer | None]
"""Reads (size, position); None where the disk would be waited for."""

_PROBE = 4096
_WINDOW = 1 << 20


class Span(NamedTuple):
    """Where a batch lies."""

    position: int
    size: int
    base_offset: int
    next_offset: int
    max_timestamp_ms: int


def spans(read: ReadAt, position: int, end: int) -> Iterator[Span | None]:
    """The batches from ``position`` to ``end``, by their headers alone; None, and no more, where ``read`` gave None.

    Raises CorruptMessage (with ``position``) where no batch starts.
    """
    chunk: Buffer = b""
    start = position
    while position < end:
        at = position - start
        if at + SPAN.size > len(chunk):
            read_now = read(min(_PROBE, end - position), position)
            if read_now is None:
                yield None
                return
            chunk, start, at = read_now, position, 0
            if len(chunk) < min(HEADER_SIZE, end - position):
                raise CorruptMessage(f"the file ends at {position + len(chunk)}, before {end}", position=position)
        if at + SPAN.size > len(chunk):
            raise CorruptMessage(
                f"{end - position} bytes are left at {position}, a header takes {HEADER_SIZE}", position=position
            )
        base_offset, length, delta, max_timestamp = SPAN.unpack_from(chunk, at)
        size = length + LOG_OVERHEAD
        if size < HEADER_SIZE or position + size > end or delta < 0:
            raise CorruptMessage(f"no batch starts at {position}", position=position)
        yield Span(position, size, base_offset, base_offset + delta + 1, max_timestamp)
        position += size


def headers(read: Callable[[int, int], Buffer], position: int, end: int) -> Iterator[tuple[int, BatchHeader]]:
    """Position and whole header of the batches from ``position`` to ``end``; no more is read of them.

    Raises CorruptMessage (with ``position``) where no batch starts.
    """
    chunk: Buffer = b""
    start = position
    while position < end:
        if position - start + HEADER_SIZE > len(chunk):
            chunk, start = read(min(_PROBE, end - position), position), position
        header = parse_header(chunk, position - start)
        yield position, header
        position += header.size


class Batch(NamedTuple):
    """A whole batch in memory: ``buffer[at:at + header.size]``, which lies at ``position`` of the file."""

    position: int
    header: BatchHeader
    buffer: Buffer
    at: int


class BatchWalk:
    """Reads the batches of ``file`` from ``position`` to ``end``, checking each.

    ``position`` moves along; where iteration stops short of ``end``, ``stopped`` says why. Contiguity is not checked.
    """

    def __init__(self, file: File, position: int, end: int) -> None:
        self.position = position
        self.stopped: CorruptMessage | None = None
        self._file = file
        self._end = end
        self._start = position
        self._window: Buffer = b""

    def __iter__(self) -> Iterator[Batch]:
        while self.position < self._end:
            try:
                batch = self._next()
            except CorruptMessage as error:
                self.stopped = error
                return
            self.position += batch.header.size
            yield batch

    def refuse(self, why: str, header: BatchHeader) -> None:
        """The batch given last is not what should be there: the walk stopped before it."""
        self.position -= header.size
        self.stopped = CorruptMessage(why)

    def _next(self) -> Batch:
        self._hold(HEADER_SIZE)
        header = parse_header(self._window, self.position - self._start)
        if header.size > self._end - self.position:
            raise CorruptMessage(
                f"the batch at {self.position} has {header.size} bytes, {self._end - self.position} are there"
            )
        self._hold(header.size)
        at = self.position - self._start
        check_batch(self._window, at, header, dense=False)
        return Batch(self.position, header, self._window, at)

    def _hold(self, size: int) -> None:
        """Have ``size`` bytes from the position on in the window, if the file has them."""
        if self.position - self._start + size > len(self._window):
            wanted = min(max(size, _WINDOW), self._end - self.position)
            self._window = self._file.pread(wanted, self.position)
            self._start = self.position
