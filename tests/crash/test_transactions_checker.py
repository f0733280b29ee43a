"""The checker of transactions flags every anomaly it names: one bad history each, beside a good one that it passes."""

from pathlib import Path

import pytest

from tests.crash import transactions
from tests.crash.history import Operation, Outcome, Poll, Recorder, Transact, read_history
from tests.crash.transactions import check_transactions

A, B = "t-0", "t-1"


def done(
    process: str, action: Poll | Transact, at: int, outcome: Outcome = Outcome.OK, until: int | None = None
) -> Operation:
    return Operation(process, action, outcome, at, at + 1 if until is None else until)


def transact(value: int, asked: int, **polled: tuple[tuple[int, int], ...]) -> Transact:
    """The same value to both partitions, plus one."""
    return Transact({A: (value,), B: (value + 1,)}, {{"a": A, "b": B}[at]: seen for at, seen in polled.items()}, asked)


def polled(*, a: tuple[tuple[int, int], ...] = (), b: tuple[tuple[int, int], ...] = ()) -> Poll:
    return Poll({A: a, B: b})


GOOD = [
    done("w", transact(1, 10), 0, until=20),
    done("w", transact(5, 0), 30, Outcome.FAIL),
    done("w", transact(7, 40), 35, Outcome.UNKNOWN),
    done("x", transact(9, 60, a=((0, 1),)), 50, until=70),
    done("r", polled(a=((0, 1), (6, 9)), b=((0, 2), (6, 10))), 80),
]

BAD = {
    "aborted-read": [done("w", transact(1, 0), 0, Outcome.FAIL), done("r", polled(a=((0, 1),)), 10)],
    "precommitted-read": [
        done("w", transact(1, 10), 0, until=20),
        done("r", polled(a=((0, 1),)), 5),
        done("r", polled(a=((0, 1),), b=((0, 2),)), 30),
    ],
    "torn-transaction": [done("w", transact(1, 10), 0, Outcome.UNKNOWN), done("r", polled(a=((0, 1),)), 30)],
    "lost-transaction": [done("w", transact(1, 10), 0, until=20), done("r", polled(a=((3, 4),)), 30)],
    "duplicate": [done("w", transact(1, 10), 0, until=20), done("r", polled(a=((0, 1), (2, 1)), b=((0, 2),)), 30)],
    "G1c": [
        done("v", transact(1, 10, a=((4, 5),)), 0, until=20),
        done("w", transact(5, 10, a=((0, 1),)), 0, until=20),
        done("r", polled(a=((0, 1), (4, 5)), b=((0, 2), (4, 6))), 30),
    ],
}


def test_a_good_history_has_no_anomaly() -> None:
    assert check_transactions(GOOD) == {}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_shows_its_anomaly_and_no_other(name: str) -> None:
    assert set(check_transactions(BAD[name])) == {name}


def test_a_transaction_that_reads_its_own_value_is_told() -> None:
    found = check_transactions([done("w", transact(1, 10, a=((0, 1),), b=((0, 2),)), 0, until=20)])
    assert set(found) == {"precommitted-read"}


def test_every_anomaly_that_the_checker_documents_has_a_bad_history() -> None:
    assert transactions.__doc__ is not None
    table = transactions.__doc__.split("=\n")[1]
    assert {line.split()[0] for line in table.splitlines()[:-1]} == set(BAD)


def test_a_transaction_is_read_back_as_it_was_recorded(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "one", "w")
    action = transact(1, 10, b=((0, 4),))
    recorder.begin(Transact())
    recorder.end(Outcome.OK, action)
    recorder.close()
    assert [one.action for one in read_history([tmp_path / "one"])] == [action]
