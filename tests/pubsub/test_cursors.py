"""Cursors against plain sets of offsets."""

from hypothesis import given
from hypothesis import strategies as st

from logbroker.pubsub.cursors import Cursor

LIMIT = 40
offsets = st.sets(st.integers(0, LIMIT - 1))


def spans(done: set[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for offset in sorted(done):
        if found and found[-1][1] == offset:
            found[-1] = (found[-1][0], offset + 1)
        else:
            found.append((offset, offset + 1))
    return found


def cursor_of(done: set[int]) -> Cursor:
    frontier = next(offset for offset in range(LIMIT + 1) if offset not in done)
    return Cursor.of(frontier, [span for span in spans(done) if span[0] > frontier])


def done_in(cursor: Cursor) -> set[int]:
    above = {offset for low, end in cursor.done for offset in range(low, end)}
    return set(range(cursor.offset)) | above


@given(offsets)
def test_a_cursor_says_what_is_done(done: set[int]) -> None:
    assert done_in(cursor_of(done)) == done
    assert cursor_of(done).normal() == cursor_of(done)


@given(offsets, offsets)
def test_what_is_opened_again_is_not_done(done: set[int], opened: set[int]) -> None:
    cursor = cursor_of(done).without(opened)
    assert done_in(cursor) == done - opened
    assert cursor == cursor_of(done - opened)


@given(offsets, st.integers(0, LIMIT))
def test_what_is_gone_is_done(done: set[int], start: int) -> None:
    cursor = cursor_of(done).not_below(start)
    assert done_in(cursor) == done | set(range(start))
    assert cursor == cursor_of(done | set(range(start)))
