"""Decisions about messages that nobody holds: publish for later, reschedule, cancel, redrive, discard, purge, seek.

What lives here: what people and operations ask by message id, by offset or for a whole partition. What may not: mutations.
Invariant: what is leased or moving is never touched, but by purge and seek, which make leases and moves void.
"""

from itertools import islice

from logbroker.errors import LogbrokerError, MessageNotFound, Throttled
from logbroker.machine import Decision, Park
from logbroker.queues import commands as c
from logbroker.queues import events as e
from logbroker.queues.copies import delayed
from logbroker.queues.draft import Draft, Wish
from logbroker.queues.headers import Reason
from logbroker.queues.positions import Position, Source, first_of
from logbroker.queues.state import State


def publish_later(draft: Draft, command: c.PublishLater) -> Decision[c.LeaseReply]:
    """The message goes to the retry topic at once and waits there."""
    state = draft.state
    record = delayed(state.place, state.hard.generation, command.record, command.due_ms, draft.now)
    draft.publish(record, command.due_ms, command.token)
    return draft.decision(Park(command.token), wait_for_flush=False)


def find(state: State, first: int) -> Position | None:
    """Where the message with this id index stands in the source or retry topic; None when it is done there.

    A source position may lie beyond what is written; whoever asks knows the end of the topic.
    """
    known = state.soft.schedule.find(first)
    if known is not None:
        return Position(Source.RETRY, known[1])
    position = first_of(first)
    return position if position.source is Source.SOURCE and not state.hard.is_finished(position) else None


def reschedule(draft: Draft, command: c.Reschedule) -> Decision[c.LeaseReply]:
    """A copy with another due time takes over; a promotion of what may be delivered anyway changes nothing."""
    state, message = draft.state, command.message
    refusal = _not_waiting(draft, message.first)
    if refusal is not None:
        return draft.decision(refusal)
    if find(state, message.first) != message.position:
        return draft.decision(Throttled("the message moved meanwhile; try again"))
    if command.due_ms <= draft.now.wall_ms and message.due_ms <= draft.now.wall_ms:
        return draft.decision(c.Placed(message.position))
    draft.move(
        Wish(
            position=message.position,
            first=message.first,
            target=Source.RETRY,
            failures=message.failures,
            deliveries=state.hard.returned.get(message.position, message.deliveries),
            due_ms=command.due_ms,
            cause=Reason.DELAYED,
            reason=Reason.DELAYED,
            caller=command.token,
            wanted=True,
        )
    )
    return draft.decision(Park(command.token), wait_for_flush=False)


def cancel(draft: Draft, command: c.Cancel) -> Decision[c.LeaseReply]:
    """The message is done without having been delivered, or the answer says that it was."""
    refusal = _not_waiting(draft, command.first)
    if refusal is not None:
        return draft.decision(refusal)
    position = find(draft.state, command.first)
    assert position is not None, "a message that waits has a position"
    if position.source is Source.RETRY:
        draft.events.append(e.Withdrawn(command.first, position.offset))
    draft.events.append(e.Finished(position.source, ((position.offset, position.offset + 1),)))
    return draft.decision(c.Outcome.CANCELLED)


def _not_waiting(draft: Draft, first: int) -> c.Outcome | LogbrokerError | None:
    """Why a message cannot be changed, or None if it waits."""
    position = find(draft.state, first)
    if position is None or position in draft.state.hard.leased:
        return c.Outcome.ALREADY_DELIVERED
    if position in draft.state.soft.moves.by_position:
        return Throttled("the message is being moved; try again")
    return None


def redrive(draft: Draft, command: c.Redrive) -> Decision[c.LeaseReply]:
    """A dead letter goes back: to the retry topic, so that other readers of the source topic see nothing twice."""
    letter, state = command.letter, draft.state
    position = Position(Source.DEAD, letter.offset)
    if not _is_dead(state, letter.offset):
        return draft.decision(MessageNotFound(f"there is no dead letter at {position}: it was redriven or discarded"))
    draft.move(
        Wish(
            position=position,
            first=letter.first,
            target=Source.RETRY,
            failures=0,
            deliveries=letter.header.deliveries,
            due_ms=draft.now.wall_ms,
            cause=Reason.REDRIVEN,
            reason=Reason.REDRIVEN,
            edit=command.edit,
            caller=command.token,
            wanted=True,
        )
    )
    return draft.decision(Park(command.token), wait_for_flush=False)


def _is_dead(state: State, offset: int) -> bool:
    dead = state.progress(Source.DEAD)
    moving = Position(Source.DEAD, offset) in state.soft.moves.by_position
    return dead.took(offset) and offset not in dead.finished and not moving


def discard(draft: Draft, command: c.Discard) -> Decision[c.LeaseReply]:
    """Dead letters are done; the reply is how many there were."""
    return _finish_dead(draft, [offset for offset in dict.fromkeys(command.offsets) if _is_dead(draft.state, offset)])


def drop_oldest(draft: Draft, command: c.DropOldest) -> Decision[c.LeaseReply]:
    """The oldest dead letters are done; the reply is how many."""
    dead = draft.state.progress(Source.DEAD)
    runs = dead.finished.open_runs(dead.finished.frontier, dead.end)
    oldest = (offset for start, end in runs for offset in range(start, end) if _is_dead(draft.state, offset))
    return _finish_dead(draft, list(islice(oldest, command.count)))


def _finish_dead(draft: Draft, offsets: list[int]) -> Decision[c.LeaseReply]:
    if offsets:
        draft.events.append(e.Finished(Source.DEAD, tuple((offset, offset + 1) for offset in offsets)))
    return draft.decision(len(offsets))


def dead_full(draft: Draft, command: c.DeadFull) -> Decision[c.LeaseReply]:
    """Hold back what is bound for the dead letters, or let it go."""
    draft.events.append(e.DeadTopicFull(command.full))
    return draft.decision(wait_for_flush=False)


def purge(draft: Draft, command: c.Purge) -> Decision[c.LeaseReply]:
    """One event: everything below is done."""
    draft.events.append(e.Purged(command.source_before, command.retry_before))
    return draft.decision()


def seek(draft: Draft, command: c.Seek) -> Decision[c.LeaseReply]:
    """Start over elsewhere: one event, and one for what is done there already."""
    draft.events.append(e.Sought(command.offset, max(draft.state.hard.generation + 1, command.generation)))
    if command.done:
        draft.events.append(e.Skipped.over(command.offset, command.done))
    return draft.decision()


def configure(draft: Draft, command: c.Configure) -> Decision[c.LeaseReply]:
    """Other rules from now on."""
    draft.events.append(e.RulesChanged(command.rules))
    return draft.decision(wait_for_flush=False)
