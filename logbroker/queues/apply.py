"""The only place that changes a lease machine: one function for each event, live and on replay.

What lives here: mutations. What may not: decisions, times, errors.
Invariant: what becomes of ``Hard`` depends on hard events alone. Soft state follows along: on replay it is empty, so that
whatever is not found there is read from the topics later.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from logbroker.queues import events as e
from logbroker.queues.copies import CopyPlan
from logbroker.queues.messages import Message
from logbroker.queues.offset_ranges import OffsetRanges
from logbroker.queues.positions import Position, Source
from logbroker.queues.rules import REMEMBERED_ACKS
from logbroker.queues.state import Lease, State


def apply(state: State, event: Any) -> None:
    """Change the state by one event."""
    _APPLY[type(event)](state, event)


# -- leases --------------------------------------------------------------------------------------------------------------


def _leased(state: State, event: e.Leased) -> None:
    state.hard.at = event.at
    state.hard.next_number = event.number + len(event.grants)
    for number, grant in enumerate(event.grants, event.number):
        _withdraw(state, grant.position)
        state.hard.returned.pop(grant.position, None)
        _hold(state, Lease(number, event.run, event.consumer, grant, event.at + event.lease_ms, event.at))


def _hold(state: State, lease: Lease) -> None:
    state.hard.leases[lease.number] = lease
    state.hard.leased[lease.grant.position] = lease
    state.soft.deadlines.add(lease.deadline, lease.number)


def _end_lease(state: State, lease: Lease) -> None:
    del state.hard.leases[lease.number]
    del state.hard.leased[lease.grant.position]
    state.soft.deadlines.discard(lease.deadline, lease.number)


def _acked(state: State, event: e.Acked) -> None:
    state.hard.at = event.at
    acked = state.hard.acked
    for number in event.numbers:
        lease = state.hard.leases[number]
        acked[number] = lease.run
        _finish(state, lease.grant.position)
    while len(acked) > REMEMBERED_ACKS:
        del acked[next(iter(acked))]


def _released(state: State, event: e.Released) -> None:
    state.hard.at = event.at
    for number in event.numbers:
        lease = state.hard.leases[number]
        _end_lease(state, lease)
        state.hard.returned[lease.grant.position] = lease.grant.deliveries
        _come_again(state, lease.grant.position, lease.grant.first)


def _come_again(state: State, position: Position, first: int) -> None:
    """Make a returned message eligible, unless the process has not read it yet anyway."""
    if position.source is Source.RETRY:
        known = state.soft.schedule.find(first)
        if known is not None:
            state.soft.again.put(position, known[0], None)
    elif position.offset < state.read_next:
        state.soft.again.put(position, 0, None)


def _extended(state: State, event: e.Extended) -> None:
    state.hard.at = event.at
    for number, deadline in event.deadlines:
        lease = state.hard.leases[number]
        state.soft.deadlines.discard(lease.deadline, number)
        lease.deadline = deadline
        state.soft.deadlines.add(deadline, number)


def _resumed(state: State, event: e.Resumed) -> None:
    passed = event.at - state.hard.at
    state.hard.at = event.at
    state.soft.deadlines.clear()
    for lease in state.hard.leases.values():
        lease.deadline += passed
        lease.received += passed
        state.soft.deadlines.add(lease.deadline, lease.number)
        if lease.grant.key is not None:
            state.soft.lines.join(lease.grant.key, lease.grant.position, 0)


# -- positions -----------------------------------------------------------------------------------------------------------


def _withdraw(state: State, position: Position) -> None:
    """The message is not eligible any more."""
    for eligible in (state.soft.fresh, state.soft.back, state.soft.again):
        eligible.discard(position)


def _finish(state: State, position: Position) -> None:
    """The message at a position is done there."""
    soft = state.soft
    _forget_scheduled(state, position)
    lease = state.hard.leased.get(position)
    if lease is not None:
        _end_lease(state, lease)
    state.hard.returned.pop(position, None)
    state.progress(position.source).finished.add(position.offset, position.offset + 1)
    _withdraw(state, position)
    moving = soft.moves.by_position.get(position)
    if moving is not None:
        soft.moves.void(moving)
    behind = soft.lines.leave(position)
    if behind is not None:
        soft.again.put(behind.position, behind.due_ms, None)


def _forget_scheduled(state: State, position: Position) -> None:
    if position.source is not Source.RETRY or state.hard.is_finished(position):
        return
    first = state.first_at(position)
    if first is not None:
        state.soft.schedule.forget(first, position.offset)
        return
    for known in state.soft.schedule.at(position.offset):
        state.soft.schedule.forget(known, position.offset)


def _finished(state: State, event: e.Finished) -> None:
    for start, end in event.spans:
        if end - start == 1:
            _finish(state, Position(event.source, start))
        else:
            state.progress(event.source).finished.add(start, end)


def _purged(state: State, event: e.Purged) -> None:
    soft, hard = state.soft, state.hard
    before = (event.source_before, event.retry_before, 0)

    def below(position: Position) -> bool:
        return position.offset < before[position.source]

    for lease in [lease for lease in hard.leases.values() if below(lease.grant.position)]:
        _end_lease(state, lease)
    for position in [position for position in hard.returned if below(position)]:
        del hard.returned[position]
    for moving in [moving for position, moving in soft.moves.by_position.items() if below(position)]:
        soft.moves.void(moving)
    for eligible in (soft.fresh, soft.back, soft.again):
        eligible.drop_below(Source.SOURCE, event.source_before)
        eligible.drop_below(Source.RETRY, event.retry_before)
    soft.schedule.forget_below(event.retry_before)
    for source, offset in ((Source.SOURCE, event.source_before), (Source.RETRY, event.retry_before)):
        state.progress(source).finished.add(0, offset)
    soft.read_to = max(soft.read_to, event.source_before)
    ahead = [soft.lines.leave(position) for position in soft.lines.standing(below)]
    for behind in ahead:
        if behind is not None and not hard.is_finished(behind.position):
            soft.again.put(behind.position, behind.due_ms, None)


def _sought(state: State, event: e.Sought) -> None:
    soft, hard = state.soft, state.hard
    hard.generation = event.generation
    hard.leases.clear()
    hard.leased.clear()
    hard.returned.clear()
    for moving in soft.moves.by_token.values():
        soft.moves.void(moving)
    retry = state.progress(Source.RETRY)
    retry.finished.add(0, retry.seen)
    for offset in retry.ahead:
        retry.finished.add(offset, offset + 1)
    state.progress(Source.SOURCE).finished = OffsetRanges(event.offset)
    soft.read_to, soft.last_due_ms = event.offset, 0
    for cleared in (soft.fresh, soft.back, soft.again, soft.schedule, soft.lines, soft.deadlines):
        cleared.clear()


# -- copies --------------------------------------------------------------------------------------------------------------


def _copied(state: State, event: e.Copied) -> None:
    state.progress(event.to.source).take(event.to.offset, event.seen)
    if event.replaces is not None:
        _finish(state, event.replaces)


def _voided(state: State, event: e.Voided) -> None:
    progress = state.progress(event.to.source)
    progress.take(event.to.offset, event.seen)
    progress.finished.add(event.to.offset, event.to.offset + 1)


def _seen(state: State, event: e.Seen) -> None:
    state.progress(event.source).read_to(event.seen)


def _waiting(state: State, event: e.Waiting) -> None:
    position, soft = Position(Source.RETRY, event.offset), state.soft
    if position in state.hard.leased:
        soft.schedule.know(event.first, event.due_ms, event.offset)
    elif position in state.hard.returned:
        soft.schedule.know(event.first, event.due_ms, event.offset)
        soft.again.put(position, event.due_ms, None)
    else:
        soft.schedule.put(event.first, event.due_ms, event.offset, failed=event.failures > 0)
    kept = event.replaces is not None and event.failures > 0 and soft.lines.replace(event.replaces, position)
    in_line = event.failures > 0 or position in state.hard.leased or position in state.hard.returned
    if state.rules.ordered and event.key is not None and in_line and not kept:
        soft.lines.join(event.key, position, event.due_ms)


# -- reading -------------------------------------------------------------------------------------------------------------


def _taken_in(state: State, event: e.TakenIn) -> None:
    for message in event.messages:
        # Time stamps of producers may go back; the order of the source is that of its offsets.
        state.soft.last_due_ms = max(state.soft.last_due_ms, message.due_ms)
        _make_ready(state, message, state.soft.last_due_ms)
    state.soft.read_to = event.next_offset


def _supplied(state: State, event: e.Supplied) -> None:
    for message in event.messages:
        state.soft.again.discard(message.position)
        state.soft.schedule.take(message.first)
        _make_ready(state, message, message.due_ms)


def _make_ready(state: State, message: Message, due_ms: int) -> None:
    """The message may be delivered, unless an earlier one of its key is in the way or it was leased before the load."""
    soft, key, position = state.soft, message.record.key, message.position
    at_head = not state.rules.ordered or key is None or soft.lines.join(key, position, due_ms)
    if at_head and not state.is_busy(position):
        came_before = message.deliveries > 0 or position in state.hard.returned
        (soft.back if came_before else soft.fresh).put(position, due_ms, message)


# -- moves ---------------------------------------------------------------------------------------------------------------


def _withdrawn(state: State, event: e.Withdrawn) -> None:
    state.soft.schedule.forget(event.first, event.offset)


def _move_started(state: State, event: e.MoveStarted) -> None:
    moving, soft = event.moving, state.soft
    if moving.position is not None and moving.first is not None:
        _withdraw(state, moving.position)
        soft.schedule.take(moving.first)
        lease = state.hard.leased.get(moving.position)
        if lease is not None:
            soft.deadlines.discard(lease.deadline, lease.number)
    soft.moves.start(moving, state.progress(moving.target).end)


def _move_restarted(state: State, event: e.MoveRestarted) -> None:
    moving = state.soft.moves.by_token[event.token]
    state.soft.moves.restart(event.token, state.progress(moving.target).end)


def _move_held(state: State, event: e.MoveHeld) -> None:
    state.soft.moves.hold(event.token, event.retry_at)
    moving = state.soft.moves.by_token[event.token]
    moving.caller = None
    if event.lean and isinstance(moving.record, CopyPlan):
        moving.record = replace(moving.record, lean=True)


def _move_done(state: State, event: e.MoveDone) -> None:
    state.soft.moves.end(event.token)


def _move_dropped(state: State, event: e.MoveDropped) -> None:
    moving = state.soft.moves.end(event.token)
    position = moving.position
    if moving.void or position is None or moving.first is None or state.soft.lines.is_behind(position):
        return
    if position.source is Source.RETRY:
        state.soft.schedule.put(moving.first, moving.due_before_ms, position.offset, failed=moving.failures > 0)
    elif position.source is Source.SOURCE and position.offset < state.read_next:
        state.soft.again.put(position, moving.due_before_ms, None)


def _dead_topic_full(state: State, event: e.DeadTopicFull) -> None:
    state.soft.dead_full = event.full


def _rules_changed(state: State, event: e.RulesChanged) -> None:
    state.rules = event.rules


# -- snapshots -----------------------------------------------------------------------------------------------------------


def _base(state: State, event: e.Base) -> None:
    state.hard.at, state.hard.generation, state.hard.next_number = event.at, event.generation, event.next_number


def _log(state: State, event: e.Log) -> None:
    progress = state.progress(event.source)
    progress.finished, progress.seen, progress.ahead = OffsetRanges(event.frontier), event.seen, set(event.ahead)


def _done(state: State, event: e.Done) -> None:
    for start, end in event.spans:
        state.progress(event.source).finished.add(start, end)


def _leases(state: State, event: e.Leases) -> None:
    for lease in event.leases:
        _hold(state, Lease(lease.number, lease.run, lease.consumer, lease.grant, lease.deadline, lease.received))


def _returned(state: State, event: e.Returned) -> None:
    state.hard.returned.update(event.deliveries)


def _remembered(state: State, event: e.Remembered) -> None:
    state.hard.acked.update(dict.fromkeys(event.numbers, event.run))


_APPLY: dict[type, Callable[[State, Any], None]] = {
    e.Leased: _leased,
    e.Acked: _acked,
    e.Released: _released,
    e.Extended: _extended,
    e.Resumed: _resumed,
    e.Finished: _finished,
    e.Purged: _purged,
    e.Sought: _sought,
    e.Copied: _copied,
    e.Voided: _voided,
    e.Seen: _seen,
    e.Waiting: _waiting,
    e.TakenIn: _taken_in,
    e.Supplied: _supplied,
    e.Withdrawn: _withdrawn,
    e.MoveStarted: _move_started,
    e.MoveRestarted: _move_restarted,
    e.MoveHeld: _move_held,
    e.MoveDone: _move_done,
    e.MoveDropped: _move_dropped,
    e.DeadTopicFull: _dead_topic_full,
    e.RulesChanged: _rules_changed,
    e.Base: _base,
    e.Log: _log,
    e.Done: _done,
    e.Leases: _leases,
    e.Returned: _returned,
    e.Remembered: _remembered,
}
