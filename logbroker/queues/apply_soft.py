"""Soft events of a lease machine: what was read, what is on its way, who may be delivered.

What lives here: the mutations of ``Soft``. What may not: ``Hard`` (a restart would not know of it), decisions.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from logbroker.queues import events as e
from logbroker.queues.copies import CopyPlan
from logbroker.queues.messages import Message
from logbroker.queues.positions import Position, Source
from logbroker.queues.state import State


def withdraw(state: State, position: Position) -> None:
    """The message is not eligible any more."""
    for eligible in (state.soft.fresh, state.soft.back, state.soft.again):
        eligible.discard(position)


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


# -- moves ---------------------------------------------------------------------------------------------------------------


def _withdrawn(state: State, event: e.Withdrawn) -> None:
    state.soft.schedule.forget(event.first, event.offset)


def _move_started(state: State, event: e.MoveStarted) -> None:
    moving, soft = event.moving, state.soft
    if moving.position is not None and moving.first is not None:
        withdraw(state, moving.position)
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


APPLY_SOFT: dict[type, Callable[[State, Any], None]] = {
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
}
