"""Making a handler idempotent: which messages were handled is kept beside what they changed, in one transaction.

What lives here: the inbox of a handler that keeps its data in SQLite, or has none. What may not: workers, queues.
Invariant: an id is recorded in the same transaction as what the body has written through the connection it got, so after
any crash either both are there or neither is (the idempotent receiver of Hohpe and Woolf, with the inbox table of
transactional messaging).
"""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from logbroker.client.durations import Duration, to_ms
from logbroker.client.handling import Retry

_TABLE = "CREATE TABLE IF NOT EXISTS logbroker_inbox (id TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID"
_BUSY_S = 30.0
_SWEEP_EVERY = 1_000


class Inbox:
    """Which messages were handled, in an SQLite file that may hold tables of yours too. For use by several threads.

    ``keep`` is how long an id is remembered; it has to be longer than a message can come back.
    """

    def __init__(self, path: str | Path, *, keep: Duration = "7d") -> None:
        self._path = str(path)
        self._keep_ms = to_ms(keep)
        self._handled = 0
        self._under_way: set[str] = set()
        self._lock = threading.Lock()
        with contextlib.closing(self._connect()) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(_TABLE)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)

    @contextlib.contextmanager
    def once(self, message_id: str) -> Iterator[sqlite3.Connection | None]:
        """A connection in a transaction that also records the id; None when the message was handled before.

        An exception of the body undoes what it wrote and forgets the id. Raises Retry while the message is being handled.
        """
        with self._alone(message_id), contextlib.closing(self._connect()) as db:
            if db.execute("SELECT 1 FROM logbroker_inbox WHERE id = ?", (message_id,)).fetchone():
                yield None
                return
            db.execute("BEGIN")  # the write lock is taken by the first write, so bodies that write nothing go side by side
            try:
                with _contention():
                    yield db
                    self._record(db, message_id)
                    db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _alone(self, message_id: str) -> Iterator[None]:
        with self._lock:
            if message_id in self._under_way:
                raise Retry(f"message {message_id} is being handled by another call", after="1s")
            self._under_way.add(message_id)
        try:
            yield
        finally:
            self._under_way.discard(message_id)

    def _record(self, db: sqlite3.Connection, message_id: str) -> None:
        now_ms = time.time_ns() // 1_000_000
        try:
            db.execute("INSERT INTO logbroker_inbox VALUES (?, ?)", (message_id, now_ms))
        except sqlite3.IntegrityError:
            raise Retry(f"message {message_id} was handled by another process meanwhile", after=0) from None
        self._handled += 1
        if self._handled % _SWEEP_EVERY == 1:
            db.execute("DELETE FROM logbroker_inbox WHERE at_ms < ?", (now_ms - self._keep_ms,))


@contextlib.contextmanager
def _contention() -> Iterator[None]:
    """Another transaction was first: what was read may be old (SQLITE_BUSY_SNAPSHOT), so the body has to run anew."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        raise Retry("the inbox is busy", after=0.1) from None
