"""What is counted of a view: how often what happened, and who works on it.

What lives here: counting, from the events of the lease machines as they are applied. What may not: I/O, clocks.
Invariant: every count is of this process; what a load replays is not counted.
"""

from collections.abc import Callable, Mapping
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
    "received": "Deliveries.",
    "redelivered": "Deliveries of messages that were delivered before.",
    "acked": "Messages acknowledged.",
    "nacked": "Deliveries that a consumer said have failed.",
    "rejected": "Messages that a consumer rejected.",
    "released": "Deliveries given back without counting.",
    "lease_expired": "Leases that ended by themselves.",
    "retried": "Failed messages that were sent to the retry topic.",
    "dead_lettered": "Messages that became dead letters.",
    "redriven": "Dead letters that were sent back.",
    "filter_errors": "Messages on which a filter failed, so that they did not match.",
}
OF_QUEUES: Mapping[str, str] = {
    "sent": "Messages sent through the queue.",
    "expired": "Messages whose time to live was over.",
    "duplicates": "Sends whose deduplication id had been accepted before.",
}
"""What is counted of queues besides."""
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


class Counters:
    """The families of all views of one kind: its word begins their names and is the label that names a view."""

    def __init__(self, metrics: Metrics, kind: str, more: Mapping[str, str]) -> None:
        self.families: dict[str, Family] = {
            name: metrics.counter(f"{kind}_{name}_total", doc, (kind,)) for name, doc in {**_COUNTERS, **more}.items()
        }
        self.processed = metrics.counter(
            f"{kind}_consumer_processed_total", "Messages acknowledged, by consumer.", (kind, "consumer")
        )
        self.errors = metrics.counter(
            f"{kind}_consumer_errors_total", "Failed deliveries, by consumer.", (kind, "consumer")
        )
        self.waited = metrics.histogram(
            f"{kind}_time_in_{kind}_seconds", "From the append of a message to its first delivery.", (kind,)
        )

    def forget(self, name: str) -> None:
        """The view is gone."""
        for family in (*self.families.values(), self.processed, self.errors):
            for labels in [labels for labels in family.values if labels[0] == name]:
                del family.values[labels]
        self.waited.series.pop((name,), None)


@dataclass(slots=True)
class Tally:
    """The counts of one view. ``counting`` is switched on once it is loaded."""

    name: str
    counters: Counters
    counting: bool = False
    totals: dict[str, int] = field(init=False)
    consumers: dict[str, Consumer] = field(default_factory=dict)
    """By name, the one seen last at the end."""

    def __post_init__(self) -> None:
        self.totals = dict.fromkeys(self.counters.families, 0)

    def count(self, name: str, amount: int = 1) -> None:
        """Something happened."""
        self.totals[name] += amount
        self.counters.families[name].add(amount, self.name)

    def saw(self, name: str, now_ms: int) -> Consumer:
        """A consumer has called."""
        consumer = self.consumers.pop(name, None) or Consumer(name)
        consumer.last_seen_ms = max(now_ms, consumer.last_seen_ms)
        self.consumers[name] = consumer
        if len(self.consumers) > MAX_CONSUMERS:
            del self.consumers[next(iter(self.consumers))]
        return consumer

    def active_since(self, since_ms: int) -> int:
        """How many consumers were seen since then."""
        return sum(consumer.last_seen_ms >= since_ms for consumer in self.consumers.values())

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
                self.counters.processed.add(1, self.name, lease.consumer)

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
            self.counters.errors.add(1, self.name, lease.consumer)
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
