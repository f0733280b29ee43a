"""The checker of work queues flags every anomaly it names: one bad history each, made by hand, beside a good one."""

import pytest

from tests.crash import jobs
from tests.crash.history import Action, Enqueue, Inventory, Operation, Outcome, Receive, Settle
from tests.crash.jobs import check_jobs

MS = 1_000_000
LEASE_MS = 1000


def history(*steps: tuple[int, str, Action] | tuple[int, str, Action, Outcome]) -> list[Operation]:
    """Operations that begin at a millisecond and take one."""
    return [
        Operation(step[1], step[2], step[3] if len(step) == 4 else Outcome.OK, step[0] * MS, (step[0] + 1) * MS)
        for step in steps
    ]


def leased(*values: int) -> Receive:
    return Receive(LEASE_MS, values)


SENT = (0, "p", Enqueue((1, 2)))

GOOD = history(
    SENT,
    (10, "p", Enqueue((3,)), Outcome.UNKNOWN),
    (20, "a", leased(1, 2)),
    (30, "a", Settle("nack", (1,))),
    (40, "b", leased(1)),
    (50, "a", Settle("ack", (2,))),
    (60, "b", Settle("ack", (1,)), Outcome.UNKNOWN),
    (1200, "a", leased(1)),
    (1210, "a", Settle("release", (1,))),
    (1300, "p", Inventory(dead=(1,))),
)

BAD = {
    "job-lost": history(SENT, (20, "p", Inventory(pending=(1,)))),
    "retry-lost": history(SENT, (10, "a", leased(1)), (20, "a", Settle("nack", (1,))), (30, "p", Inventory(pending=(2,)))),
    "dead-lost": history(SENT, (10, "a", leased(1)), (20, "a", Settle("reject", (1,))), (30, "p", Inventory(pending=(2,)))),
    "job-invented": history((0, "p", Enqueue((1,)), Outcome.FAIL), (10, "a", leased(1)), (20, "p", Inventory((1,)))),
    "job-resurrected": history(
        SENT,
        (10, "a", leased(1)),
        (20, "a", Settle("ack", (1,))),
        (2000, "b", leased(1)),
        (2010, "p", Inventory(pending=(2,))),
    ),
    "job-doubled": history(SENT, (10, "p", Inventory(pending=(1, 1, 2)))),
    "dlq-duplicate": history(SENT, (10, "p", Inventory(pending=(1,), dead=(2, 2)))),
    "double-lease": history(SENT, (10, "a", leased(1)), (900, "b", leased(1)), (910, "p", Inventory(pending=(1, 2)))),
}


def test_a_good_history_has_no_anomaly() -> None:
    assert check_jobs(GOOD) == {}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_shows_its_anomaly_and_no_other(name: str) -> None:
    assert set(check_jobs(BAD[name])) == {name}


def test_every_anomaly_that_the_checker_documents_has_a_bad_history() -> None:
    assert jobs.__doc__ is not None
    table = jobs.__doc__.split("=\n")[1]
    assert {line.split()[0] for line in table.splitlines()[:-1]} == set(BAD)


def test_a_job_still_pending_after_its_ack_is_resurrected() -> None:
    steps = history(SENT, (10, "a", leased(1)), (20, "a", Settle("ack", (1,))), (30, "p", Inventory(pending=(1, 2))))
    assert set(check_jobs(steps)) == {"job-resurrected"}


def test_a_lease_that_ran_out_may_go_to_another() -> None:
    steps = history(SENT, (10, "a", leased(1)), (1011, "b", leased(1)), (1020, "p", Inventory(pending=(1, 2))))
    assert check_jobs(steps) == {}
