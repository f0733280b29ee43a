"""Decisions about messages that nobody takes: how long the source keeps them for this view, and when they are dropped.

What lives here: marks and what they lead to. What may not: mutations.
Invariants: a message is kept for as long as promised from when it was appended, or from the creation or the last seek of
the view if that is later, by the broker's clock: time stamps of records may be anything. What is held by a consumer, or
failed before and waits in the retry topic, is not dropped.

Nobody stores when a record was appended. So the end of the source is noted now and then, with the time (a *mark*): below a
mark everything is at least as old. There are at most ``MARKS`` of them, so what is dropped is up to that share older.
"""

from logbroker.machine import Decision
from logbroker.queues import commands as c
from logbroker.queues import events as e
from logbroker.queues.draft import Draft
from logbroker.queues.positions import Source

MARKS = 32


def age(draft: Draft, command: c.Age) -> Decision[c.LeaseReply]:
    """Note where the source ends, and drop what was kept long enough; the reply is how many offsets that were."""
    state, now = draft.state, draft.now.wall_ms
    frontier, marks = state.progress(Source.SOURCE).finished.frontier, state.hard.marks
    last_ms, last = marks[-1] if marks else (None, frontier)
    if command.end > max(last, frontier) and (last_ms is None or last_ms + command.keep_ms // MARKS <= now):
        draft.events.append(e.Marked(now, command.end))
    before = max((offset for at_ms, offset in marks if at_ms + command.keep_ms <= now), default=0)
    if before <= frontier:
        return draft.decision(0, wait_for_flush=False)
    dropped = sum(end - start for start, end in state.unheld(before))
    draft.events.append(e.Aged(before))
    return draft.decision(dropped, wait_for_flush=False)
