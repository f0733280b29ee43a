"""Judges the history of a work queue: ``check_jobs(history)`` names every anomaly in it.

What lives here: pure functions of a history, as in ``checker``; a job is the unique value of a message. The history
must end with an Inventory taken when everything was quiet.

================ ====================================================================================================
job-lost         a job whose sending was acknowledged is neither acked, nor pending, nor dead at the end
retry-lost       the same of a job that was delivered and given back with nack
dead-lost        the same of a job that was rejected: no dead letter may be dropped before the inventory
job-invented     a job was delivered or stood in the inventory whose sending certainly failed
job-resurrected  a job was delivered, or is still pending, after its ack was answered
job-doubled      a job is pending twice at the end, or both pending and dead
dlq-duplicate    a job is dead twice
double-lease     a job was delivered to two receivers inside one lease
================ ====================================================================================================
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TypeAlias

from tests.crash.history import Enqueue, Inventory, Operation, Outcome, Receive, Settle

Anomaly: TypeAlias = tuple[str, str]


@dataclass(slots=True)
class _Job:
    """Everything known of one job."""

    sent: Outcome = Outcome.UNKNOWN
    received: list[Operation] = field(default_factory=list)
    settled: list[Operation] = field(default_factory=list)
    """Every settlement but those that certainly failed."""
    pending: int = 0
    dead: int = 0

    def acked(self) -> list[Operation]:
        """The answered acks."""
        return [one for one in self.settled if _how(one) == "ack" and one.outcome is Outcome.OK]

    def is_there(self) -> bool:
        """Whether the job can be accounted for. An unanswered ack may have taken effect."""
        return self.pending + self.dead > 0 or any(_how(one) == "ack" for one in self.settled)

    def loss(self) -> str:
        """What to call it when the job is nowhere."""
        answered = {_how(one) for one in self.settled if one.outcome is Outcome.OK}
        return "dead-lost" if "reject" in answered else "retry-lost" if "nack" in answered else "job-lost"


def _how(settlement: Operation) -> str:
    assert isinstance(settlement.action, Settle)
    return settlement.action.how


def check_jobs(history: Sequence[Operation]) -> dict[str, list[str]]:
    """The occurrences of every anomaly in ``history`` (operations by invocation); empty when all is well."""
    found: dict[str, list[str]] = defaultdict(list)
    for value, job in _gather(history).items():
        for name, occurrence in _judge(job):
            found[name].append(f"job {value}: {occurrence}")
    return dict(found)


def _gather(history: Sequence[Operation]) -> dict[int, _Job]:
    jobs: dict[int, _Job] = defaultdict(_Job)
    for one in history:
        if isinstance(one.action, Enqueue):
            for value in one.action.values:
                jobs[value].sent = one.outcome
        elif isinstance(one.action, Receive) and one.outcome is Outcome.OK:
            for value in one.action.values:
                jobs[value].received.append(one)
        elif isinstance(one.action, Settle) and one.outcome is not Outcome.FAIL:
            for value in one.action.values:
                jobs[value].settled.append(one)
        elif isinstance(one.action, Inventory):
            for value, count in Counter(one.action.pending).items():
                jobs[value].pending = count
            for value, count in Counter(one.action.dead).items():
                jobs[value].dead = count
    return jobs


def _judge(job: _Job) -> Iterator[Anomaly]:
    if job.sent is Outcome.OK and not job.is_there():
        yield job.loss(), "is nowhere"
    if job.sent is Outcome.FAIL and (job.received or job.pending or job.dead):
        yield "job-invented", "its sending failed"
    if job.pending > 1 or (job.pending and job.dead):
        yield "job-doubled", f"pending {job.pending} times, dead {job.dead} times"
    if job.dead > 1:
        yield "dlq-duplicate", f"dead {job.dead} times"
    yield from _resurrections(job)
    for one, other in combinations(job.received, 2):
        if _share_a_lease(job, one, other):
            yield "double-lease", f"leased to {one.process} and {other.process}"


def _resurrections(job: _Job) -> Iterator[Anomaly]:
    for ack in job.acked():
        if any(receive.invoked_ns > ack.completed_ns for receive in job.received):
            yield "job-resurrected", "delivered again after its ack was answered"
        if job.pending or job.dead:
            yield "job-resurrected", "still there after its ack was answered"


def _share_a_lease(job: _Job, one: Operation, other: Operation) -> bool:
    """Whether one was delivered inside the lease of the other, whichever came first and however late each answer was."""
    if _lease_end(one) < other.completed_ns or _lease_end(other) < one.completed_ns:
        return False
    first, second = sorted((one, other), key=lambda receive: receive.completed_ns)
    given_back = [end for end in job.settled if end.process == first.process and end.invoked_ns < second.completed_ns]
    return not any(end.invoked_ns > first.invoked_ns for end in given_back)


def _lease_end(receive: Operation) -> int:
    """The earliest moment at which the lease may have ended by itself."""
    assert isinstance(receive.action, Receive)
    return receive.invoked_ns + receive.action.lease_ms * 1_000_000
