"""The loop that runs machines over one partition of an internal topic.

What lives here: the order in which things happen. What may not: what any machine decides.
Invariants:

- a machine decides on a state that includes everything it decided before: while its events are being written it waits, and
  the others go on. All hard events of one round are one batch, so the machines of a partition share their flushes;
- events are applied when the append has returned, in the order decided; an append that failed applies nothing;
- a reply is given when all its machine had written before is durable (``answers``);
- a snapshot pass writes every machine once, with rounds in between; when it is durable the log is trimmed to where the pass
  began. So a load reads little more than two passes, and no journal waits for a compactor.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Generic, TypeVar

from logbroker.clock import Clock
from logbroker.engine.api import Engine
from logbroker.errors import FlushFailed, LogbrokerError, Recovering, WriterFenced
from logbroker.journal.answers import Answers, resolve
from logbroker.journal.deadlines import Deadlines
from logbroker.journal.entries import Entry, MachineKind
from logbroker.journal.loader import Loader, load
from logbroker.journal.log import JournalLog
from logbroker.journal.moves import Mover
from logbroker.journal.records import EventCodec
from logbroker.journal.snapshots import Snapshots
from logbroker.machine import Decision, HardEvent, Machine, Move, Moved, MoveFailed
from logbroker.model import Now, Record, TopicPartition

log = logging.getLogger(__name__)

ROUND_DECISIONS = 256
"""The most decisions of one round, so that no round holds the loop for long."""
RETRY_MS = 1_000
"""How long a deadline waits whose events could not be written."""

M = TypeVar("M", bound=Machine[Any, Any])
R = TypeVar("R")


@dataclass(slots=True)
class _Work(Generic[M, R]):
    """Something a machine has to decide on, and who wants to know."""

    name: str
    decide: Callable[[M, Now], Decision[R]]
    future: "asyncio.Future[R | None] | None" = None


class Journal(Generic[M, R]):
    """Machines by name that share one partition.

    Made closed; ``open`` loads it; its machines can then be asked, and ``resume`` lets time pass for them.
    """

    def __init__(
        self, engine: Engine, where: TopicPartition, kind: MachineKind[M], clock: Clock, mover: Mover | None = None
    ) -> None:
        self._engine = engine
        self._where = where
        self._kind = kind
        self._clock = clock
        self._mover = mover
        self._codec = EventCodec(kind.event_type)
        self._log = JournalLog(engine, where)
        self._entries: dict[str, Entry[M]] = {}
        self._queue: deque[_Work[M, R]] = deque()
        self._writing: list[_Work[M, R]] = []
        self._answers: Answers[R] = Answers()
        self._deadlines = Deadlines()
        self._tokens = count(1)
        self._snapshots = Snapshots(self._log, self._codec)
        self._failure: LogbrokerError | None = Recovering(f"the journal {where} is not open")
        self._is_resumed = False
        self._moves_under_way = 0
        self._has_work = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    # -- life ------------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Claim the partition and load it.

        Raises PartitionDamaged, and DataDirectoryError when a newer logbroker wrote it.
        """
        await self._log.claim()
        loader = Loader(self._kind.new)
        end = self._log.end = await load(self._engine, self._where, self._codec, loader)
        self._answers.flushed(end)
        self._entries = {name: Entry(machine, True, end) for name, machine in loader.machines.items()}
        self._snapshots.wrote(loader.events, 0)
        self._failure = None
        self._spawn(self._run, f"journal {self._where}")
        self._spawn(lambda: self._log.keep_flushing(self._answers.flushed), f"journal {self._where} flush")

    def resume(self) -> None:
        """Let the loaded machines go on: from now on their deadlines come up."""
        for name in list(self._entries):
            self._put(_Work(name, lambda machine, now: machine.resume(now)))
        self._is_resumed = True

    async def close(self) -> None:
        """Stop. What was written is flushed and answered; who waits for something else gets Recovering."""
        was_open = self._failure is None
        self._failure = self._failure or Recovering("the broker is stopping")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if was_open:
            with contextlib.suppress(LogbrokerError):
                self._answers.flushed(await self._log.flush())
        self._refuse_all(self._failure)

    def _spawn(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        task = asyncio.create_task(self._guarded(work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A task that fails takes the whole journal with it: nothing is decided on a state that may be wrong."""
        try:
            await work()
        except LogbrokerError as error:
            self._fail(error)
        except Exception:
            log.exception("journal %s has failed", self._where)
            self._fail(LogbrokerError(f"the journal {self._where} has failed; the log of the broker says why"))

    def _fail(self, error: LogbrokerError) -> None:
        self._failure = self._failure or error
        self._refuse_all(error)
        self._has_work.set()

    def _refuse_all(self, error: LogbrokerError) -> None:
        self._answers.fail(error)
        for work in (*self._writing, *self._queue):
            if work.future is not None:
                resolve(work.future, error)
        self._queue.clear()

    # -- for callers -----------------------------------------------------------------------------------------------------

    def new_token(self) -> int:
        """A token for a command whose reply may have to wait."""
        return next(self._tokens)

    async def ask(self, name: str, command: Any) -> R | None:
        """The machine's reply to ``command``, once it is durable. Raises the machine's refusals and what writing raises.

        A caller that is cancelled before the machine has decided has asked nothing.
        """
        if self._failure is not None:
            raise self._failure
        future: asyncio.Future[R | None] = asyncio.get_running_loop().create_future()
        self._put(_Work(name, lambda machine, now: machine.decide(command, now), future))
        return await future

    async def flushed(self) -> None:
        """Return once everything that machines show now is durable. Raises what flushing raises."""
        if self._failure is not None:
            raise self._failure
        future: asyncio.Future[R | None] = asyncio.get_running_loop().create_future()
        self._answers.give(Decision(), future, self._log.end)
        await future

    def machine(self, name: str) -> M:
        """The machine of that name, made if there is none, to look at; what it shows may not be durable yet."""
        return self._entry(name).machine

    def find(self, name: str) -> M | None:
        """The machine of that name, if there is one, to look at."""
        entry = self._entries.get(name)
        return entry.machine if entry is not None else None

    def machines(self) -> Iterator[tuple[str, M]]:
        """All machines, to look at."""
        return ((name, entry.machine) for name, entry in list(self._entries.items()))

    def wake(self) -> None:
        """Look at the clock again: for clocks that are moved by hand."""
        self._has_work.set()

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way and nothing is due: what remains is to wait for a caller or for time to pass."""
        due = self._deadlines.next()
        at_work = self._queue or self._writing or self._moves_under_way
        return not at_work and (due is None or due > self._clock.now().mono_ms)

    def _put(self, work: _Work[M, R]) -> None:
        self._queue.append(work)
        self._has_work.set()

    # -- rounds ----------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while self._failure is None:
            await self._until_work()
            await self._round()
            if self._snapshots.have_work:
                await self._snapshots.go_on(self._entries)
            await asyncio.sleep(0)

    async def _until_work(self) -> None:
        due = self._deadlines.next() if self._is_resumed else None
        wait_s = None if due is None else (due - self._clock.now().mono_ms) / 1_000
        if self._queue or self._snapshots.have_work or (wait_s is not None and wait_s <= 0):
            return
        self._has_work.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._has_work.wait()

    async def _round(self) -> None:
        """Let machines decide; write what is to be written; apply it."""
        now = self._clock.now()
        for name in self._deadlines.due(now.mono_ms) if self._is_resumed else ():
            self._queue.append(_Work(name, lambda machine, now: machine.expire(now)))
        decided: list[tuple[_Work[M, R], Entry[M], Decision[R]]] = []
        busy: set[str] = set()
        deferred: list[_Work[M, R]] = []
        for _ in range(min(len(self._queue), ROUND_DECISIONS)):
            work = self._queue.popleft()
            if work.name in busy:
                deferred.append(work)
            elif work.future is None or not work.future.cancelled():
                entry = self._entry(work.name)
                decision = self._decide(work, entry, now)
                if _hard_events(decision):
                    busy.add(work.name)
                    decided.append((work, entry, decision))
                else:
                    self._apply(work, entry, decision)
        self._queue.extendleft(reversed(deferred))
        if decided:
            await self._write(decided)

    def _entry(self, name: str) -> Entry[M]:
        entry = self._entries.get(name)
        if entry is None:
            # What an earlier machine of this name has written is waited for, as if this were the same.
            entry = self._entries[name] = Entry(self._kind.new(name), False, self._log.end)
        return entry

    def _decide(self, work: _Work[M, R], entry: Entry[M], now: Now) -> Decision[R]:
        """A decision that breaks has changed nothing: it is the caller's misfortune, not everybody's."""
        try:
            return work.decide(entry.machine, now)
        except Exception:
            log.exception("journal %s: %s could not decide", self._where, work.name)
            return Decision(reply=LogbrokerError(f"{work.name} could not decide; the log of the broker says why"))

    async def _write(self, decided: Sequence[tuple[_Work[M, R], Entry[M], Decision[R]]]) -> None:
        records: list[Record] = []
        written = 0
        for work, entry, decision in decided:
            if not entry.has_snapshot:
                records.extend(self._codec.snapshot(work.name, ()))
            events = _hard_events(decision)
            records.append(self._codec.events(work.name, events))
            written += len(events)
        self._writing = [work for work, _, _ in decided]
        try:
            await self._log.append(records)
        except (WriterFenced, FlushFailed):
            raise
        except LogbrokerError as error:
            self._refuse(self._writing, error)
            return
        self._snapshots.wrote(written, sum(len(record.value or b"") for record in records))
        for work, entry, decision in decided:
            entry.has_snapshot = True
            entry.end = self._log.end
            self._apply(work, entry, decision)
        self._writing = []

    def _refuse(self, works: Sequence[_Work[M, R]], error: LogbrokerError) -> None:
        """Nothing was written, so nothing has happened; what time has brought about is tried again later."""
        log.warning("journal %s: %s", self._where, error)
        for work in works:
            if work.future is not None:
                resolve(work.future, error)
            self._deadlines.schedule(work.name, self._clock.now().mono_ms + RETRY_MS)

    def _apply(self, work: _Work[M, R], entry: Entry[M], decision: Decision[R]) -> None:
        for event in decision.events:
            entry.machine.apply(event)
        self._moves_under_way += len(decision.moves)
        for move in decision.moves:
            self._spawn(partial(self._move, work.name, move), f"move {move.token} of {work.name}")
        self._answers.give(decision, work.future, entry.end)
        self._kind.applied(work.name, entry.machine)
        now = self._clock.now()
        deadline = entry.machine.next_deadline(now)
        if deadline is not None:
            # One that stays due although nothing came of it must not keep the loop busy.
            earliest = now.mono_ms if decision.events else now.mono_ms + RETRY_MS
            self._deadlines.schedule(work.name, deadline if deadline > now.mono_ms else earliest)
        elif self._kind.is_vacant(entry.machine):
            self._entries.pop(work.name, None)

    async def _move(self, name: str, move: Move) -> None:
        assert self._mover is not None, "this kind of machine moves nothing"
        outcome: Moved | MoveFailed
        try:
            outcome = Moved(move.token, await self._mover.move(move))
        except LogbrokerError as error:
            outcome = MoveFailed(move.token, error)
        finally:
            self._moves_under_way -= 1
        self._put(_Work(name, lambda machine, now: machine.decide(outcome, now)))


def _hard_events(decision: Decision[Any]) -> list[HardEvent]:
    return [event for event in decision.events if isinstance(event, HardEvent)]
