"""The set of finished offsets against a plain set."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from logbroker.queues.offset_ranges import OffsetRanges

END = 60
spans = st.lists(st.tuples(st.integers(0, END - 1), st.integers(0, 8)).map(lambda s: (s[0], min(END, s[0] + s[1]))))


def filled(spans: list[tuple[int, int]], frontier: int = 0) -> tuple[OffsetRanges, set[int]]:
    ranges, naive = OffsetRanges(frontier), set(range(frontier))
    for start, end in spans:
        ranges.add(start, end)
        naive.update(range(start, end))
    return ranges, naive


@given(spans, st.integers(0, 5))
def test_it_holds_what_a_plain_set_holds(spans: list[tuple[int, int]], frontier: int) -> None:
    ranges, naive = filled(spans, frontier)
    assert [offset in ranges for offset in range(END + 2)] == [offset in naive for offset in range(END + 2)]


@given(spans)
def test_the_frontier_is_the_lowest_open_offset_and_ranges_do_not_touch(spans: list[tuple[int, int]]) -> None:
    ranges, naive = filled(spans)
    assert ranges.frontier == min(set(range(END + 1)) - naive)
    edges = [edge for span in [(0, ranges.frontier), *ranges] for edge in span]
    assert all(a < b for a, b in pairwise(edges[1:]))
    assert ranges.above == len([offset for offset in naive if offset >= ranges.frontier])
    assert ranges.open_below(END) == END - len(naive)


@given(spans, st.integers(0, END), st.integers(0, END))
def test_open_runs_are_the_complement(spans: list[tuple[int, int]], start: int, end: int) -> None:
    ranges, naive = filled(spans)
    runs = list(ranges.open_runs(start, end))
    assert [offset for low, high in runs for offset in range(low, high)] == [o for o in range(start, end) if o not in naive]
    assert all(a[1] < b[0] for a, b in pairwise(runs))
