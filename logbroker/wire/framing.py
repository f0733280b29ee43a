"""Size-prefixed frames out of a byte stream, as buffers for asyncio's BufferedProtocol. No I/O here.

    frame = size (int32, big-endian, of what follows) | payload

What lives here: the receive buffer of one connection: where the next frame begins and ends, when to grow and to let go.
What may not: sockets, and any knowledge of what a payload holds.
Invariant: ``start <= end <= len(buffer)``; the unread bytes are ``buffer[start:end]``.

A frame is a view into the buffer, and the buffer is used again: **no view may be kept after the handler of its frame
has returned** (copy what must live longer). A bytearray with exported views cannot be resized, so growing allocates anew.
"""

from struct import Struct
from typing import Final

from logbroker.errors import InvalidFrame

_PREFIX: Final = Struct(">i")
_SMALL: Final = 16 * 1024
"""What an active connection holds at least, in bytes."""
_PROMPT: Final = 1024 * 1024
"""A frame up to this many bytes gets its whole buffer as soon as its size is known; a larger one as its bytes arrive."""


class FrameBuffer:
    """The received and unread bytes of one connection.

    The door calls `get_buffer` and `received` as asyncio asks, then `next_frame` until that says None. It may stop in
    between (a parked fetch blocks what stands behind it) and go on later; meanwhile it pauses reading.

    ``limit`` is the largest payload in bytes. ``first_limit`` holds until `lift_limit` is called after the first valid
    request, so that a stray HTTP request or a port scan does not make the broker allocate.
    """

    __slots__ = ("_buffer", "_end", "_full_limit", "_limit", "_start")

    def __init__(self, limit: int, first_limit: int = 64 * 1024) -> None:
        self._full_limit = limit
        self._limit = min(limit, first_limit)
        self._buffer = bytearray()
        self._start = 0
        self._end = 0

    @property
    def unread_bytes(self) -> int:
        """What was received and not yet handed out, size prefixes included."""
        return self._end - self._start

    @property
    def capacity_bytes(self) -> int:
        """What the connection holds in memory."""
        return len(self._buffer)

    def lift_limit(self) -> None:
        """Let frames be as large as ``limit`` from now on."""
        self._limit = self._full_limit

    def get_buffer(self, size_hint: int = -1) -> memoryview:
        """Where the next bytes go: never empty. ``size_hint`` is asyncio's and of no use: the frame knows its size."""
        if self._start == self._end:
            self._start = self._end = 0
        frame_bytes = self._frame_bytes()
        full = self._end == len(self._buffer)
        if full or (frame_bytes <= _PROMPT and self._start + frame_bytes > len(self._buffer)):
            self._make_room(frame_bytes)
        return memoryview(self._buffer)[self._end :]

    def received(self, count: int) -> None:
        """``count`` bytes were put into the buffer that `get_buffer` returned."""
        self._end += count

    def next_frame(self) -> memoryview | None:
        """The payload of the next whole frame, or None while there is none. Valid until its handler returns.

        Raises InvalidFrame, again on every call, for a size that is negative or above the limit: close the connection.
        """
        payload = self._start + _PREFIX.size
        if payload > self._end:
            return None
        size: int = _PREFIX.unpack_from(self._buffer, self._start)[0]
        if not 0 <= size <= self._limit:
            raise InvalidFrame(f"a frame of {size} bytes was announced, this connection takes 0 to {self._limit}")
        if payload + size > self._end:
            return None
        self._start = payload + size
        return memoryview(self._buffer)[payload : self._start]

    def shrink(self) -> None:
        """Give the memory back if nothing is unread: for a connection that has gone idle."""
        if self._start == self._end:
            self._start = self._end = 0
            self._buffer = bytearray()

    def _frame_bytes(self) -> int:
        """The length of the frame under way, its prefix included; 0 while that is unknown or not acceptable."""
        if self.unread_bytes < _PREFIX.size:
            return 0
        size: int = _PREFIX.unpack_from(self._buffer, self._start)[0]
        return _PREFIX.size + size if 0 <= size <= self._limit else 0

    def _make_room(self, frame_bytes: int) -> None:
        """Move the unread bytes to the front: of this buffer if their frame fits into it, else of a larger one."""
        unread = self.unread_bytes
        if frame_bytes > _PROMPT:
            # What was only announced costs the peer nothing, so memory follows what has really arrived.
            frame_bytes = min(frame_bytes, max(_PROMPT, 2 * unread))
        needed = frame_bytes if frame_bytes > unread else max(_SMALL, 2 * unread)
        if needed <= len(self._buffer):
            view = memoryview(self._buffer)
            view[:unread] = view[self._start : self._end]
        else:
            larger = bytearray(max(_SMALL, needed))
            larger[:unread] = memoryview(self._buffer)[self._start : self._end]
            self._buffer = larger
        self._start, self._end = 0, unread
