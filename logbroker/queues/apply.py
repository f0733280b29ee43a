"""The only place that changes a lease machine: one function for each event, live and on replay.

What lives here: mutations, those of hard events; ``apply_soft`` has the others. What may not: decisions, times, errors.
Invariant: what becomes of ``Hard`` depends on hard events alone. Soft state follows along: on replay it is empty, so that
whatever is not found there is read from the topics later.
"""

from collections.abc import Callable
from typing import Any

from logbroker.queues import events as e
from logbroker.queues.apply_soft import APPLY_SOFT, withdraw
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
        withdraw(state, grant.position)
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


def _finish(state: State, position: Position) -> None:
    """The message at a position is done there."""
    soft = state.soft
    _forget_scheduled(state, position)
    lease = state.hard.leased.get(position)
    if lease is not None:
        _end_lease(state, lease)
    state.hard.returned.pop(position, None)
    state.progress(position.source).finished.add(position.offset, position.offset + 1)
    withdraw(state, position)
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


def _skipped(state: State, event: e.Skipped) -> None:
    finished, returned = state.progress(Source.SOURCE).finished, state.hard.returned
    for start, end in event.spans():
        finished.add(start, end)
    if returned:
        for position in [one for one in returned if one.source is Source.SOURCE and one.offset in finished]:
            del returned[position]


def _marked(state: State, event: e.Marked) -> None:
    frontier = state.progress(Source.SOURCE).finished.frontier
    state.hard.marks = [mark for mark in state.hard.marks if mark[1] > frontier]
    state.hard.marks.append((event.at_ms, event.offset))


def _aged(state: State, event: e.Aged) -> None:
    hard, read_next = state.hard, state.read_next
    for start, end in state.unheld(event.before):
        for offset in range(start, min(end, read_next)):
            _finish(state, Position(Source.SOURCE, offset))
        state.progress(Source.SOURCE).finished.add(max(start, min(end, read_next)), end)
    for position in [one for one in hard.returned if one.source is Source.SOURCE and one.offset < event.before]:
        del hard.returned[position]
    hard.marks = [mark for mark in hard.marks if mark[1] > event.before]
    state.soft.read_to = max(state.soft.read_to, event.before)


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
    hard.marks.clear()
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
    **APPLY_SOFT,
    e.Leased: _leased,
    e.Acked: _acked,
    e.Released: _released,
    e.Extended: _extended,
    e.Resumed: _resumed,
    e.Finished: _finished,
    e.Skipped: _skipped,
    e.Marked: _marked,
    e.Aged: _aged,
    e.Purged: _purged,
    e.Sought: _sought,
    e.Copied: _copied,
    e.Voided: _voided,
    e.Seen: _seen,
    e.Base: _base,
    e.Log: _log,
    e.Done: _done,
    e.Leases: _leases,
    e.Returned: _returned,
    e.Remembered: _remembered,
}
