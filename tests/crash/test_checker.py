"""The checker flags every anomaly it names: one bad history each, made by hand, beside a good one that it passes."""

import dataclasses
from pathlib import Path

import pytest

from tests.crash import checker
from tests.crash.checker import check
from tests.crash.history import (
    Action,
    Assign,
    Commit,
    Committed,
    Operation,
    Outcome,
    Poll,
    Recorder,
    Send,
    Subscribe,
    read_history,
)

WHERE = "topic-0"


def history(*steps: tuple[str, Action] | tuple[str, Action, Outcome]) -> list[Operation]:
    """Operations one after another, none at the same time as another; ok unless told otherwise."""
    return [
        Operation(step[0], step[1], step[2] if len(step) == 3 else Outcome.OK, 2 * number, 2 * number + 1)
        for number, step in enumerate(steps)
    ]


def sent(values: list[int], at: int | None) -> Send:
    return Send(WHERE, tuple(values), at)


def polled(*records: tuple[int, int], group: str | None = None, rebalanced: bool = False) -> Poll:
    return Poll({WHERE: records}, group, rebalanced)


GOOD = history(
    ("writer", sent([1, 2], 0)),
    ("writer", sent([3], None), Outcome.UNKNOWN),
    ("writer", sent([4], None), Outcome.FAIL),
    ("writer", sent([5], 4)),
    ("reader", Assign()),
    ("reader", polled((0, 1), (1, 2))),
    ("reader", polled((2, 3), (4, 5))),
    ("reader", Assign()),
    ("reader", polled((0, 1))),
    ("member", Subscribe()),
    ("member", polled((0, 1), (1, 2), group="g")),
    ("member", Commit("g", {WHERE: 2})),
    ("member", polled((4, 5), group="g")),
    ("other", Committed("g", {WHERE: 2})),
)

READ_ALL = ("reader", polled((0, 1), (1, 2), (2, 3)))

BAD = {
    "lost-write": history(("w", sent([1, 2, 3], 0)), ("r", polled((0, 1))), ("r2", polled((2, 3)))),
    "unseen": history(("w", sent([1, 2], 0)), ("r", polled((0, 1)))),
    "torn-batch": history(("w", sent([1, 2], None), Outcome.UNKNOWN), ("r", polled((0, 1)))),
    "duplicate": history(("w", sent([1], 0)), ("r", polled((0, 1), (1, 1)))),
    "inconsistent-offsets": history(("r", polled((0, 1))), ("r2", polled((0, 2)))),
    "aborted-read": history(("w", sent([1], None), Outcome.FAIL), ("r", polled((0, 1)))),
    "poll-skip": history(READ_ALL, ("r", polled((0, 1))), ("r", polled((2, 3)))),
    "nonmonotonic-poll": history(READ_ALL, ("r", polled((1, 2))), ("r", polled((0, 1)))),
    "int-poll-skip": history(READ_ALL, ("r", polled((0, 1), (2, 3)))),
    "int-nonmonotonic-poll": history(READ_ALL, ("r", polled((1, 2), (0, 1)))),
    "nonmonotonic-send": history(("w", sent([1], 1)), ("w", sent([2], 0)), ("r", polled((0, 2), (1, 1)))),
    "commit-regress": history(
        ("m", polled((0, 1), (1, 2), group="g")), ("m", Commit("g", {WHERE: 2})), ("m", Committed("g", {WHERE: 1}))
    ),
    "commit-ahead": history(READ_ALL, ("m", polled((0, 1), group="g")), ("m", Commit("g", {WHERE: 2}))),
}


def test_a_good_history_has_no_anomaly() -> None:
    assert check(GOOD) == {}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_shows_its_anomaly_and_no_other(name: str) -> None:
    assert set(check(BAD[name])) == {name}


def test_every_anomaly_that_the_checker_documents_has_a_bad_history() -> None:
    assert checker.__doc__ is not None
    table = checker.__doc__.split("=\n")[1]
    assert {line.split()[0] for line in table.splitlines()[:-1]} == set(BAD)


@pytest.mark.parametrize(("read", "place"), [((1, 2), "prefix"), ((0, 2), "middle")])
def test_a_lost_write_is_told_by_its_place(read: tuple[int, int], place: str) -> None:
    seen = [("r", polled((offset, offset + 1))) for offset in read]
    (occurrence,) = check(history(("w", sent([1, 2, 3], 0)), *seen))["lost-write"]
    assert place in occurrence


def test_a_commit_moved_back_by_its_writer_is_a_regress() -> None:
    steps = history(READ_ALL, ("m", polled((0, 1), (1, 2), group="g")))
    steps += history(("m", Commit("g", {WHERE: 2})), ("m", Commit("g", {WHERE: 1})))
    spread = [dataclasses.replace(one, invoked_ns=at * 2, completed_ns=at * 2 + 1) for at, one in enumerate(steps)]
    assert set(check(spread)) == {"commit-regress"}


def test_commits_at_the_same_time_are_not_compared() -> None:
    reading = history(("m", polled((0, 1), (1, 2), group="g")))
    both = [
        Operation("m", Commit("g", {WHERE: 2}), Outcome.OK, 10, 20),
        Operation("n", Commit("g", {WHERE: 1}), Outcome.OK, 11, 21),
    ]
    assert check(reading + both) == {}


def test_a_group_may_jump_between_polls_and_in_a_poll_that_rebalanced() -> None:
    jumps = history(
        READ_ALL,
        ("m", Subscribe()),
        ("m", polled((2, 3), group="g")),
        ("m", polled((0, 1), group="g")),
        ("m", polled((2, 3), (1, 2), group="g", rebalanced=True)),
    )
    assert check(jumps) == {}


def test_a_history_is_read_back_as_it_was_recorded(tmp_path: Path) -> None:
    first, second = Recorder(tmp_path / "a", "a"), Recorder(tmp_path / "b", "b")
    first.begin(sent([1, 2], None))
    second.begin(Poll())
    second.end(Outcome.OK, polled((0, 1), (1, 2), group="g", rebalanced=True))
    first.end(Outcome.OK, sent([1, 2], 0))
    first.begin(sent([3], None))
    first.close()
    second.close()
    found = read_history([tmp_path / "a", tmp_path / "b"])
    assert [(one.process, one.action, one.outcome) for one in found] == [
        ("a", sent([1, 2], 0), Outcome.OK),
        ("b", polled((0, 1), (1, 2), group="g", rebalanced=True), Outcome.OK),
        ("a", sent([3], None), Outcome.UNKNOWN),
    ]
    assert found[1].invoked_ns < found[1].completed_ns
