"""Decisions about reading and delivering: what was read, what may be leased next.

What lives here: take in, supply, lose, acquire. What may not: mutations.
Invariants: the order of delivery is by due time, then offset (a source message is due when it was appended); nothing is
delivered after its time to live; a message on its last attempt is delivered alone, so that no crash punishes others.
"""

import heapq
from collections.abc import Iterable, Iterator

from logbroker.machine import Decision
from logbroker.model import Now
from logbroker.queues import commands as c
from logbroker.queues import events as e
from logbroker.queues.copies import CopyPlan
from logbroker.queues.draft import Draft, Wish
from logbroker.queues.headers import Reason
from logbroker.queues.messages import Message
from logbroker.queues.positions import Position, Receipt, Source
from logbroker.queues.redelivery import last_attempt
from logbroker.queues.state import State

MAX_EXPIRING = 200
"""How many messages may be on their way to the dead letters for their time to live at once."""


def take_in(draft: Draft, command: c.TakeIn) -> Decision[c.LeaseReply]:
    """New messages of the source topic; offsets between them hold none and are done."""
    state = draft.state
    if command.offset != state.read_next:
        return draft.decision()
    spans = _holes(state, command)
    if spans:
        draft.events.append(e.Skipped.over(command.offset, spans))
    fresh = tuple(message for message in command.messages if not state.hard.is_finished(message.position))
    draft.events.append(e.TakenIn(fresh, command.next_offset))
    return draft.decision(wait_for_flush=False)


def _holes(state: State, command: c.TakeIn) -> list[e.Span]:
    """What is open between the messages. A leased one may have gone from the log since: its lease is left alone."""
    finished = state.progress(Source.SOURCE).finished
    there = [message.position.offset for message in command.messages]
    leased = [position.offset for position in state.hard.leased if position.source is Source.SOURCE]
    held = [offset for offset in leased if command.offset <= offset < command.next_offset]
    spans: list[e.Span] = []
    low = command.offset
    for offset in [*(sorted({*there, *held}) if held else there), command.next_offset]:
        if low < offset:
            spans.extend(finished.open_runs(low, offset))
        low = offset + 1
    return spans


def supply(draft: Draft, command: c.Supply) -> Decision[c.LeaseReply]:
    """Records of messages that come again; what is not wanted by now is ignored."""
    soft = draft.state.soft
    wanted = tuple(
        message
        for message in command.messages
        if message.position in soft.again
        or (
            message.position.source is Source.RETRY and soft.schedule.waiting.holds(message.due_ms, message.position.offset)
        )
    )
    if wanted:
        draft.events.append(e.Supplied(wanted))
    return draft.decision(wait_for_flush=False)


def lose(draft: Draft, command: c.Lose) -> Decision[c.LeaseReply]:
    """Messages without a record are done; the reply is how many were not done before."""
    hard = draft.state.hard
    lost = [position for position in dict.fromkeys(command.positions) if not hard.is_finished(position)]
    for source in Source:
        spans = tuple((position.offset, position.offset + 1) for position in lost if position.source is source)
        if spans:
            draft.events.append(e.Finished(source, spans))
    return draft.decision(len(lost))


def acquire(draft: Draft, command: c.Acquire) -> Decision[c.LeaseReply]:
    """Lease the next messages. The answer does not wait for the flush: a power cut may forget a lease, never an ack."""
    chosen = list(_chosen(draft, command))
    state, now = draft.state, draft.now
    if not chosen:
        return draft.decision((), wait_for_flush=False)
    grants = tuple(_grant(state, message) for message in chosen)
    first, place = state.hard.next_number, state.place
    draft.events.append(e.Leased(now.mono_ms, place.run, first, command.lease_ms, command.consumer, grants))
    deliveries = tuple(
        c.Delivery(
            message,
            Receipt(place.incarnation, place.partition, message.position, number, place.run),
            grant.deliveries,
            now.wall_ms + command.lease_ms,
        )
        for number, (message, grant) in enumerate(zip(chosen, grants, strict=True), first)
    )
    return draft.decision(deliveries, wait_for_flush=False)


def _grant(state: State, message: Message) -> e.Grant:
    deliveries = state.hard.returned.get(message.position, message.deliveries) + 1
    key = message.record.key if state.rules.ordered else None
    return e.Grant(message.position, message.first, message.failures, deliveries, key)


def _chosen(draft: Draft, command: c.Acquire) -> Iterator[Message]:
    rules, left, fresh = draft.state.rules, command.limit, command.fresh
    for message, is_fresh in in_line(draft.state, with_fresh=fresh > 0):
        alone = last_attempt(rules.max_attempts, message.failures)
        if left <= 0 or (alone and (command.in_company or left < command.limit)):
            return
        if is_expired(draft, message):
            give_up_expired(draft, message)
        elif fresh > 0 or not is_fresh:
            fresh -= is_fresh
            left -= command.limit if alone else 1
            yield message


def in_line(state: State, *, with_fresh: bool) -> Iterable[tuple[Message, bool]]:
    """The messages that could be delivered, in order, and whether each is delivered for the first time."""
    soft = state.soft
    sets = (soft.fresh, soft.back) if with_fresh else (soft.back,)
    for _, position in heapq.merge(*(one.in_order() for one in sets), key=_delivery_order):
        is_fresh = position in soft.fresh
        yield (soft.fresh if is_fresh else soft.back).get(position), is_fresh


def _delivery_order(entry: tuple[int, Position]) -> tuple[int, int, Source]:
    due_ms, position = entry
    return due_ms, position.offset, position.source


def is_expired(draft: Draft, message: Message) -> bool:
    """Whether the time to live of a message is over."""
    return _is_over(draft.state, message, draft.now)


def _is_over(state: State, message: Message, now: Now) -> bool:
    expires_ms = message.expires_ms(state.rules)
    return expires_ms is not None and expires_ms <= now.wall_ms


def expiring(state: State, now: Now) -> bool:
    """Whether messages whose time to live is over are about to be moved, or on their way."""
    if state.soft.dead_full:
        return False
    first = next(state.soft.fresh.in_order(), None)
    if first is not None and _is_over(state, state.soft.fresh.get(first[1]), now):
        return True
    plans = (moving.record for moving in state.soft.moves.by_token.values() if moving.retry_at is None)
    return any(isinstance(plan, CopyPlan) and plan.reason is Reason.EXPIRED for plan in plans)


def give_up_expired(draft: Draft, message: Message) -> None:
    """Begin the move of an expired message to the dead letters; beyond a bound it just stays undelivered for now."""
    if not may_expire(draft.state, under_way=len(draft.moves)):
        return
    draft.move(
        Wish(
            position=message.position,
            first=message.first,
            target=Source.DEAD,
            failures=message.failures,
            deliveries=draft.state.hard.returned.get(message.position, message.deliveries),
            due_ms=draft.now.wall_ms,
            cause=Reason.EXPIRED,
            reason=Reason.EXPIRED,
        )
    )


def may_expire(state: State, under_way: int = 0) -> bool:
    """Whether expired messages are sent to the dead letters at present."""
    return not state.soft.dead_full and len(state.soft.moves) + under_way < MAX_EXPIRING
