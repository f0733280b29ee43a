"""Frames out of a byte stream, against the naive reading of the whole stream."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logbroker.errors import InvalidFrame
from logbroker.wire.framing import FrameBuffer

MIB = 1024 * 1024


def frame(payload: bytes) -> bytes:
    return struct.pack(">i", len(payload)) + payload


def feed(buffer: FrameBuffer, data: bytes) -> None:
    """As the event loop does: ask where, write there, say how much."""
    while data:
        room = buffer.get_buffer(len(data))
        assert room, "asyncio refuses an empty buffer"
        count = min(len(room), len(data))
        room[:count] = data[:count]
        buffer.received(count)
        data = data[count:]


def drain(buffer: FrameBuffer) -> list[bytes]:
    frames = []
    while (payload := buffer.next_frame()) is not None:
        frames.append(bytes(payload))
    return frames


def lifted(limit: int) -> FrameBuffer:
    buffer = FrameBuffer(limit)
    buffer.lift_limit()
    return buffer


@given(
    payload_sizes=st.lists(st.sampled_from([0, 1, 7, 100, 16_380, 16_384, 40_000, 70_000]), max_size=12),
    cuts=st.lists(st.integers(1, 30_000), max_size=60),
    pull=st.lists(st.booleans(), max_size=60),
)
@settings(max_examples=150, deadline=None)
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(
    payload_sizes: list[int], cuts: list[int], pull: list[bool]
) -> None:
    payloads = [bytes([index]) * size for index, size in enumerate(payload_sizes)]
    stream = b"".join(map(frame, payloads))
    buffer = lifted(MIB)
    frames: list[bytes] = []
    pulls = iter(pull)
    for cut in [*cuts, len(stream)]:
        feed(buffer, stream[:cut])
        stream = stream[cut:]
        if next(pulls, True):  # else: a parked request holds up those behind it
            frames += drain(buffer)
    feed(buffer, stream)
    frames += drain(buffer)
    assert frames == payloads
    assert buffer.unread_bytes == 0


def test_a_frame_is_not_handed_out_before_its_last_byte() -> None:
    buffer = lifted(MIB)
    frames = []
    for byte in frame(b"ab") + frame(b"") + frame(b"c"):
        feed(buffer, bytes([byte]))
        frames.append(drain(buffer))
    assert frames == [*[[]] * 5, [b"ab"], *[[]] * 3, [b""], *[[]] * 4, [b"c"]]


def test_one_frame_can_be_pulled_and_the_rest_left_for_later() -> None:
    buffer = lifted(MIB)
    feed(buffer, frame(b"first") + frame(b"second") + frame(b"third"))
    assert bytes(buffer.next_frame() or b"") == b"first"
    feed(buffer, frame(b"fourth") * 5000)
    assert drain(buffer)[:3] == [b"second", b"third", b"fourth"]


@pytest.mark.parametrize("size", [-1, -(2**31), 1001, 2**31 - 1])
def test_a_size_that_cannot_be_followed_is_refused_on_every_call(size: int) -> None:
    buffer = lifted(1000)
    feed(buffer, frame(b"fine") + struct.pack(">i", size) + b"more")
    assert bytes(buffer.next_frame() or b"") == b"fine"
    for _ in range(2):
        with pytest.raises(InvalidFrame, match=f"a frame of {size} bytes"):
            buffer.next_frame()
    assert len(buffer.get_buffer(0)) > 0


def test_the_limit_is_low_until_it_is_lifted() -> None:
    large = frame(bytes(65_537))
    buffer = FrameBuffer(MIB)
    feed(buffer, large[:10])
    with pytest.raises(InvalidFrame, match="takes 0 to 65536"):
        buffer.next_frame()
    buffer = FrameBuffer(MIB)
    feed(buffer, frame(b"valid"))
    drain(buffer)
    buffer.lift_limit()
    feed(buffer, large)
    assert drain(buffer) == [bytes(65_537)]


def test_an_http_request_is_refused() -> None:
    buffer = FrameBuffer(MIB)
    feed(buffer, b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(InvalidFrame):
        buffer.next_frame()


def test_a_frame_of_usual_size_is_received_without_moving_it() -> None:
    buffer = lifted(16 * MIB)
    feed(buffer, frame(bytes(MIB - 4))[:100])
    room = buffer.get_buffer(0)
    assert len(room) == MIB - 100


def test_memory_follows_what_arrived_not_what_was_announced() -> None:
    buffer = lifted(100 * MIB)
    feed(buffer, struct.pack(">i", 100 * MIB) + bytes(1000))
    buffer.get_buffer(0)
    assert buffer.capacity_bytes <= MIB
    feed(buffer, bytes(3 * MIB))
    buffer.get_buffer(0)
    assert buffer.capacity_bytes <= 8 * MIB


def test_a_large_frame_costs_few_moves() -> None:
    buffer = lifted(64 * MIB)
    capacities = set()
    rest = frame(bytes(20 * MIB))
    while rest:
        feed(buffer, rest[: 64 * 1024])
        rest = rest[64 * 1024 :]
        capacities.add(buffer.capacity_bytes)
    assert len(capacities) <= 7
    assert buffer.capacity_bytes == 20 * MIB + 4
    assert len(drain(buffer)[0]) == 20 * MIB


def test_growing_leaves_an_exported_view_alone() -> None:
    buffer = lifted(MIB)
    feed(buffer, frame(b"first") + frame(bytes(500_000))[:1000])
    view = buffer.next_frame()
    feed(buffer, bytes(500_004 - 1000))
    assert view is not None
    assert bytes(view) == b"first"
    assert len(drain(buffer)[0]) == 500_000


def test_an_idle_connection_gives_its_memory_back() -> None:
    buffer = lifted(MIB)
    assert buffer.capacity_bytes == 0
    feed(buffer, frame(b"x" * 500_000) + b"\0")
    drain(buffer)
    buffer.shrink()
    assert buffer.unread_bytes == 1
    feed(buffer, b"\0\0\1x")
    assert drain(buffer) == [b"x"]
    buffer.shrink()
    assert buffer.capacity_bytes == 0
    feed(buffer, frame(b"again"))
    assert drain(buffer) == [b"again"]
