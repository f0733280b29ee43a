"""What is counted of a queue: how often what happened, and who works on it.

What lives here: counting, from the events of the lease machines as they are applied. What may not: I/O, clocks.
Invariant: every count is of this process; what a load replays is not counted.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from logbroker.machine import Event
from logbroker.metrics import Family, Metrics
from logbroker.queues import events as e
from logbroker.queues.copies import CopyPlan
from logbroker.queues.headers import Reason
from logbroker.queues.leases import LeaseMachine
from logbroker.queues.positions import Source

MAX_CONSUMERS = 1_000
"""How many consumers of a queue are remembered; the one not seen for longest goes first."""

_COUNTERS = {
    "sent": "Messages sent through the queue.",
    "received": "Deliveries.",
    "redelivered": "Deliveries of messages that were delivered before.",
    "acked": "Messages acknowledged.",
    "nacked": "Deliveries that a consumer said have failed.",
    "rejected": "Messages that a consumer rejected.",
    "released": "Deliveries given back without counting.",
    "lease_expired": "Leases that ended by themselves.",
    "retried": "Failed messages that were sent to the retry topic.",
    "expired": "Messages whose time to live was over.",
    "dead_lettered": "Messages that became dead letters.",
    "redriven": "Dead letters that were sent back.",
    "duplicates": "Sends whose deduplication id had been accepted before.",
}
_OF_CAUSE = {
    Reason.NACK: "nacked",
    Reason.REJECTED: "rejected",
    Reason.LEASE_EXPIRED: "lease_expired",
    Reason.EXPIRED: "expired",
}
_FAILURES = (Reason.NACK, Reason.REJECTED, Reason.LEASE_EXPIRED)


@dataclass(slots=True)
class Consumer:
    """One consumer, as it calls itself."""

    name: str
    received: int = 0
    processed: int = 0
    errors: int = 0
    last_seen_ms: int = 0


class QueueCounters:
    """The families of all queues."""

    def __init__(self, metrics: Metrics) -> None:
        self.families: dict[str, Family] = {
            name: metrics.counter(f"queue_{name}_total", doc, ("queue",)) for name, doc in _COUNTERS.items()
        }
        self.processed = metrics.counter(
            "queue_consumer_processed_total", "Messages acknowledged, by consumer.", ("queue", "consumer")
        )
        self.errors = metrics.counter(
            "queue_consumer_errors_total", "Failed deliveries, by consumer.", ("queue", "consumer")
        )
        self.time_in_queue = metrics.histogram(
            "queue_time_in_queue_seconds", "From the append of a message to its first delivery.", ("queue",)
        )

    def forget(self, queue: str) -> None:
        """The queue is gone."""
        for family in (*self.families.values(), self.processed, self.errors):
            for labels in [labels for labels in family.values if labels[0] == queue]:
                del family.values[labels]
        self.time_in_queue.series.pop((queue,), None)


@dataclass(slots=True)
class Tally:
    """The counts of one queue. ``counting`` is switched on once it is loaded."""

    queue: str
    counters: QueueCounters
    counting: bool = False
    totals: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTERS, 0))
    consumers: dict[str, Consumer] = field(default_factory=dict)
    """By name, the one seen last at the end."""

    def count(self, name: str, amount: int = 1) -> None:
        """Something happened."""
        self.totals[name] += amount
        self.counters.families[name].add(amount, self.queue)

    def saw(self, name: str, now_ms: int) -> Consumer:
        """A consumer has called."""
        consumer = self.consumers.pop(name, None) or Consumer(name)
        consumer.last_seen_ms = max(now_ms, consumer.last_seen_ms)
        self.consumers[name] = consumer
        if len(self.consumers) > MAX_CONSUMERS:
            del self.consumers[next(iter(self.consumers))]
        return consumer

    def before(self, machine: LeaseMachine, event: Event) -> None:
        """An event is about to be applied."""
        if self.counting:
            counted = _BEFORE.get(type(event))
            if counted is not None:
                counted(self, machine, event)

    def _leased(self, machine: LeaseMachine, event: e.Leased) -> None:
        self.count("received", len(event.grants))
        again = sum(grant.deliveries > 1 for grant in event.grants)
        if again:
            self.count("redelivered", again)
        self.saw(event.consumer, 0).received += len(event.grants)

    def _acked(self, machine: LeaseMachine, event: e.Acked) -> None:
        self.count("acked", len(event.numbers))
        for number in event.numbers:
            lease = machine.lease(number)
            if lease is not None:
                self.saw(lease.consumer, 0).processed += 1
                self.counters.processed.add(1, self.queue, lease.consumer)

    def _released(self, machine: LeaseMachine, event: e.Released) -> None:
        self.count("released", len(event.numbers))

    def _move_started(self, machine: LeaseMachine, event: e.MoveStarted) -> None:
        moving, plan = event.moving, event.moving.record
        if not isinstance(plan, CopyPlan):
            return
        if plan.cause in _OF_CAUSE:
            self.count(_OF_CAUSE[plan.cause])
        lease = None if moving.position is None else machine.lease_at(moving.position)
        if plan.cause in _FAILURES and lease is not None:
            self.saw(lease.consumer, 0).errors += 1
            self.counters.errors.add(1, self.queue, lease.consumer)
        if plan.cause in _FAILURES and moving.target is Source.RETRY:
            self.count("retried")

    def _copied(self, machine: LeaseMachine, event: e.Copied) -> None:
        if event.to.source is Source.DEAD:
            self.count("dead_lettered")
        elif event.replaces is not None and event.replaces.source is Source.DEAD:
            self.count("redriven")


_BEFORE: dict[type, Callable[..., None]] = {
    e.Leased: Tally._leased,
    e.Acked: Tally._acked,
    e.Released: Tally._released,
    e.MoveStarted: Tally._move_started,
    e.Copied: Tally._copied,
}
