"""Decisions about copies: one became durable, one failed, one was found in its topic.

What lives here: moved, move failed, take over, and the restart of held moves. What may not: mutations.
Invariants (the move protocol of the design): a position is settled by a copy only once that copy is durable; every durable
copy of this life is taken over exactly once, by ``Moved`` or by a read of its topic; a copy whose ``replaces`` was done
before it was taken over, or that belongs to another life or generation, is void.
"""

from itertools import islice

from logbroker.errors import MessageTooLarge
from logbroker.machine import Decision, Moved, MoveFailed
from logbroker.queues import commands as c
from logbroker.queues import events as e
from logbroker.queues.draft import Draft
from logbroker.queues.messages import FoundCopy
from logbroker.queues.moves import Moving, backoff_ms
from logbroker.queues.positions import Position, Source, index_of
from logbroker.queues.state import State


def moved(draft: Draft, command: Moved) -> Decision[c.LeaseReply]:
    """The copy is durable: it takes over. The answer need not wait for the note of it."""
    state = draft.state
    moving = state.soft.moves.by_token.get(command.token)
    if moving is None:
        return draft.decision()
    to, progress = Position(moving.target, command.offset), state.progress(moving.target)
    if not progress.took(command.offset):
        end = max(progress.end, command.offset + 1)
        seen = max(progress.seen, state.soft.moves.seen_without(moving.token, moving.target, end))
        if moving.void:
            draft.events.append(e.Voided(to, seen))
        else:
            _take_over(draft, moving, to, seen)
    draft.events.append(e.MoveDone(moving.token))
    draft.answer(moving, c.Placed(to))
    return draft.decision(wait_for_flush=False)


def _take_over(draft: Draft, moving: Moving, to: Position, seen: int) -> None:
    if to.source is Source.RETRY:
        first = index_of(to) if moving.first is None else moving.first
        key = _key_of(draft.state, moving.position)
        draft.events.append(e.Waiting(to.offset, first, moving.due_ms, moving.failures, key, moving.position))
    draft.events.append(e.Copied(to, moving.position, seen))


def _key_of(state: State, position: Position | None) -> bytes | None:
    lease = None if position is None else state.hard.leased.get(position)
    return None if lease is None else lease.grant.key


def move_failed(draft: Draft, command: MoveFailed) -> Decision[c.LeaseReply]:
    """The copy was not written. What somebody asked for is given up; else the message is held and the move starts over."""
    moving = draft.state.soft.moves.by_token.get(command.token)
    if moving is None:
        return draft.decision()
    if moving.void:
        draft.events.append(e.MoveDone(moving.token))
    elif moving.wanted:
        draft.events.append(e.MoveDropped(moving.token))
    else:
        retry_at = draft.now.mono_ms + backoff_ms(moving.tries + 1)
        draft.events.append(e.MoveHeld(moving.token, retry_at, isinstance(command.error, MessageTooLarge)))
    draft.answer(moving, command.error)
    return draft.decision()


def restart_held(draft: Draft, limit: int) -> None:
    """Begin again the moves whose time has come."""
    state, now = draft.state, draft.now.mono_ms
    for _, token in islice(state.soft.moves.held.due(now), limit):
        moving = state.soft.moves.by_token[token]
        if moving.void:
            draft.events.append(e.MoveDone(moving.token))
        elif moving.target is Source.DEAD and state.soft.dead_full:
            draft.events.append(e.MoveHeld(moving.token, now + backoff_ms(moving.tries + 1), lean=False))
        else:
            draft.events.append(e.MoveRestarted(moving.token))
            draft.hand_out(moving)


def take_over(draft: Draft, command: c.TakeOver) -> Decision[c.LeaseReply]:
    """Copies read from their topic: those not known yet settle what they replace; retries are put on the schedule."""
    progress = draft.state.progress(command.source)
    scan = _Scan(draft, command.source)
    for copy in command.copies:
        scan.read(copy)
    if command.next_offset > max(progress.seen, scan.seen):
        draft.events.append(e.Seen(command.source, command.next_offset))
    return draft.decision(wait_for_flush=False)


class _Scan:
    """One read of a copy topic: what this decision has settled so far counts for the copies that follow."""

    def __init__(self, draft: Draft, source: Source) -> None:
        self._draft, self._source = draft, source
        self._state: State = draft.state
        self._settled: set[Position] = set()
        self.seen = 0

    def read(self, copy: FoundCopy) -> None:
        """One copy, in ascending order.

        A copy that is done but was not taken over yet was itself replaced by one that was read before: it settles all the
        same what it replaces.
        """
        to = Position(self._source, copy.offset)
        if self._state.progress(self._source).took(copy.offset):
            if not self._is_known(copy):
                self._wait(to, copy)
            return
        self.seen = copy.offset + 1
        if self._is_void(copy):
            self._draft.events.append(e.Voided(to, self.seen))
            return
        self._wait(to, copy)
        self._draft.events.append(e.Copied(to, copy.header.replaces, self.seen))
        if copy.header.replaces is not None:
            self._settled.add(copy.header.replaces)
            self._finish_move(copy.header.replaces, to)

    def _is_void(self, copy: FoundCopy) -> bool:
        header, hard = copy.header, self._state.hard
        if header.incarnation != self._state.place.incarnation or header.generation < hard.generation:
            return True
        gone = header.replaces
        return gone is not None and (gone in self._settled or hard.is_finished(gone))

    def _wait(self, to: Position, copy: FoundCopy) -> None:
        if to.source is Source.RETRY and not self._state.hard.is_finished(to):
            header = copy.header
            self._draft.events.append(
                e.Waiting(to.offset, copy.first, header.due_ms, header.failures, copy.key, header.replaces)
            )

    def _is_known(self, copy: FoundCopy) -> bool:
        known = self._state.soft.schedule.find(copy.first)
        return known is not None and known[1] == copy.offset

    def _finish_move(self, gone: Position, to: Position) -> None:
        moving = self._state.soft.moves.by_position.get(gone)
        if moving is not None:
            self._draft.events.append(e.MoveDone(moving.token))
            self._draft.answer(moving, c.Placed(to))
