"""Decisions of the clock: leases that end, moves that start over, messages whose time to live is over.

What lives here: what is due and when to look again. What may not: mutations.
Invariant: one call does a bounded amount; what is left is due at once.
"""

from itertools import islice

from logbroker.machine import Decision
from logbroker.model import Now
from logbroker.queues.acquire import give_up_expired, is_expired, may_expire
from logbroker.queues.commands import LeaseReply
from logbroker.queues.draft import Draft
from logbroker.queues.headers import Reason
from logbroker.queues.moving import restart_held
from logbroker.queues.settle import fail
from logbroker.queues.state import State

AT_ONCE = 200


def expire(draft: Draft) -> Decision[LeaseReply]:
    """What the time leads to: an expired lease is a failure like any other, with the same backoff."""
    state = draft.state
    for _, number in islice(state.soft.deadlines.due(draft.now.mono_ms), AT_ONCE):
        lease = state.hard.leases[number]
        fail(draft, lease, Reason.LEASE_EXPIRED, f"the lease of {lease.consumer or 'a consumer'} expired")
    restart_held(draft, AT_ONCE)
    _expire_at_the_frontier(draft)
    return draft.decision(wait_for_flush=False)


def _expire_at_the_frontier(draft: Draft) -> None:
    """Messages that nobody receives must not outlive their time either."""
    fresh = draft.state.soft.fresh
    for _, position in fresh.in_order():
        message = fresh.get(position)
        if not is_expired(draft, message) or not may_expire(draft.state, len(draft.moves)):
            return
        give_up_expired(draft, message)


def next_deadline(state: State, now: Now) -> int | None:
    """The monotonic time at which ``expire`` has something to do."""
    times = [state.soft.deadlines.first_due(), state.soft.moves.held.first_due(), _first_expiry(state, now)]
    return min((time for time in times if time is not None), default=None)


def _first_expiry(state: State, now: Now) -> int | None:
    fresh = state.soft.fresh
    first = next(fresh.in_order(), None)
    if first is None or not may_expire(state):
        return None
    expires_ms = fresh.get(first[1]).expires_ms(state.rules)
    return None if expires_ms is None else now.mono_ms + max(0, expires_ms - now.wall_ms)
