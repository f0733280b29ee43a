"""Decisions of whoever holds a lease: ack, release, extend, nack, reject.

What lives here: which receipts are good, and what settling leads to. What may not: mutations.
Invariant: only a receipt of the present lease, before its deadline and while the message does not move, has any effect; an
expired one has none even if nobody has noticed the expiry yet.
"""

from logbroker.errors import LeaseLost, LogbrokerError, QueueFull
from logbroker.machine import Decision, Park
from logbroker.queues import commands as c
from logbroker.queues import events as e
from logbroker.queues.draft import Draft, Wish
from logbroker.queues.headers import Reason
from logbroker.queues.positions import Receipt, Source
from logbroker.queues.redelivery import GiveUp, after_failure, spread
from logbroker.queues.rules import MAX_LEASE_MS
from logbroker.queues.state import Lease


def ack(draft: Draft, command: c.Ack) -> Decision[c.LeaseReply]:
    """The messages are done; a receipt that is remembered as acked is fine."""
    numbers: dict[int, None] = {}
    results: list[LogbrokerError | None] = []
    for receipt in command.receipts:
        lease = _lease(draft, receipt)
        if lease is not None:
            numbers[lease.number] = None
        known = lease is not None or _was_acked(draft, receipt)
        results.append(None if known else _lost(receipt))
    if numbers:
        draft.events.append(e.Acked(draft.now.mono_ms, tuple(numbers)))
    return draft.decision(tuple(results))


def release(draft: Draft, command: c.Release) -> Decision[c.LeaseReply]:
    """The messages may be delivered again at once."""
    numbers: dict[int, None] = {}
    results: list[LogbrokerError | None] = []
    for receipt in command.receipts:
        lease = _lease(draft, receipt)
        if lease is not None and lease.number not in numbers:
            numbers[lease.number] = None
            results.append(None)
        else:
            results.append(_lost(receipt))
    if numbers:
        draft.events.append(e.Released(draft.now.mono_ms, tuple(numbers)))
    return draft.decision(tuple(results))


def extend(draft: Draft, command: c.Extend) -> Decision[c.LeaseReply]:
    """New deadlines, counted from the call and capped by the time of the receive; 0 releases."""
    mono = draft.now.mono_ms
    deadlines: dict[int, int] = {}
    released: dict[int, None] = {}
    results: list[int | LogbrokerError] = []
    for receipt, lease_ms in command.entries:
        lease = _lease(draft, receipt)
        if lease is None or lease.number in released:
            results.append(_lost(receipt))
        elif lease_ms == 0:
            deadlines.pop(lease.number, None)
            released[lease.number] = None
            results.append(0)
        else:
            deadline = min(mono + lease_ms, lease.received + MAX_LEASE_MS)
            deadlines[lease.number] = deadline
            results.append(deadline - mono)
    if deadlines:
        draft.events.append(e.Extended(mono, tuple(deadlines.items())))
    if released:
        draft.events.append(e.Released(mono, tuple(released)))
    return draft.decision(tuple(results), wait_for_flush=bool(released))


def nack(draft: Draft, command: c.Nack) -> Decision[c.LeaseReply]:
    """The message failed: to the retry topic, or to the dead letters if that was its last attempt."""
    lease = _lease(draft, command.receipt)
    if lease is None:
        return draft.decision(_lost(command.receipt))
    return _parked(draft, fail(draft, lease, Reason.NACK, command.error, command.delay_ms, command.token), command.token)


def reject(draft: Draft, command: c.Reject) -> Decision[c.LeaseReply]:
    """The message failed for good: to the dead letters."""
    lease = _lease(draft, command.receipt)
    if lease is None:
        return draft.decision(_lost(command.receipt))
    wish = _wish(draft, lease, Reason.REJECTED, command.reason)
    wish.target, wish.caller = Source.DEAD, command.token
    return _parked(draft, draft.move(wish), command.token)


def fail(
    draft: Draft,
    lease: Lease,
    cause: Reason,
    error: str | None = None,
    delay_ms: int | None = None,
    caller: int | None = None,
) -> bool:
    """Begin the move that a failed delivery leads to; False if it is held."""
    rules = draft.state.rules
    wish = _wish(draft, lease, cause, error)
    wish.caller = caller
    match after_failure(rules.retry, rules.max_attempts, wish.failures, spread(lease.number), delay_ms):
        case GiveUp():
            wish.target, wish.reason = Source.DEAD, Reason.MAX_ATTEMPTS
        case verdict:
            wish.due_ms += verdict.delay_ms
    return draft.move(wish)


def _wish(draft: Draft, lease: Lease, cause: Reason, error: str | None) -> Wish:
    grant = lease.grant
    return Wish(
        position=grant.position,
        first=grant.first,
        target=Source.RETRY,
        failures=grant.failures + 1,
        deliveries=grant.deliveries,
        due_ms=draft.now.wall_ms,
        cause=cause,
        reason=cause,
        error=error,
    )


def _parked(draft: Draft, under_way: bool, token: int) -> Decision[c.LeaseReply]:
    if under_way:
        return draft.decision(Park(token), wait_for_flush=False)
    return draft.decision(
        QueueFull("the dead-letter topic is full: the message is held until letters are redriven or discarded")
    )


def _lease(draft: Draft, receipt: Receipt) -> Lease | None:
    """The lease a receipt stands for, if it is good."""
    state = draft.state
    lease = state.hard.leases.get(receipt.number)
    good = (
        lease is not None
        and _ours(draft, receipt)
        and (lease.run, lease.grant.position) == (receipt.run, receipt.position)
        and lease.deadline > draft.now.mono_ms
        and receipt.position not in state.soft.moves.by_position
    )
    return lease if good else None


def _was_acked(draft: Draft, receipt: Receipt) -> bool:
    return _ours(draft, receipt) and draft.state.hard.acked.get(receipt.number) == receipt.run


def _ours(draft: Draft, receipt: Receipt) -> bool:
    place = draft.state.place
    return (receipt.incarnation, receipt.partition) == (place.incarnation, place.partition)


def _lost(receipt: Receipt) -> LeaseLost:
    return LeaseLost(
        f"the lease on {receipt.position} has ended: the message was settled, failed, expired or purged; "
        "it is delivered again under a new receipt if it is not done",
        receipt=str(receipt),
    )
