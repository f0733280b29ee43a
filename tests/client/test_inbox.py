"""The inbox: what a handler has done, it does not do again."""

import sqlite3
import threading
from pathlib import Path

import pytest

from logbroker.client.handling import Retry
from logbroker.client.inbox import Inbox


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "inbox.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE done (what TEXT)")
    db.close()
    return path


def rows(path: Path) -> list[str]:
    db = sqlite3.connect(path)
    found = [what for (what,) in db.execute("SELECT what FROM done")]
    db.close()
    return found


def work(inbox: Inbox, message_id: str, what: str) -> bool:
    """Whether it was done now."""
    with inbox.once(message_id) as db:
        if db is None:
            return False
        db.execute("INSERT INTO done VALUES (?)", (what,))
        return True


def test_a_message_is_handled_once_also_after_a_restart(path: Path) -> None:
    inbox = Inbox(path)
    assert [work(inbox, "a", "1"), work(inbox, "b", "2"), work(inbox, "a", "1")] == [True, True, False]
    assert not work(Inbox(path), "b", "2")
    assert rows(path) == ["1", "2"]


def test_a_body_that_fails_has_written_nothing_and_may_run_again(path: Path) -> None:
    inbox = Inbox(path)
    with pytest.raises(ValueError, match="no"), inbox.once("a") as db:
        assert db is not None
        db.execute("INSERT INTO done VALUES ('half')")
        raise ValueError("no")
    assert rows(path) == []
    assert work(inbox, "a", "whole")
    assert rows(path) == ["whole"]


def test_a_second_delivery_at_the_same_time_is_told_to_come_back(path: Path) -> None:
    inbox = Inbox(path)
    with inbox.once("a"):
        with pytest.raises(Retry, match="being handled"), inbox.once("a"):
            pass
        assert work(inbox, "b", "beside") is True
    assert not work(inbox, "a", "again")


def test_another_process_that_was_first_makes_this_one_write_nothing(path: Path) -> None:
    first, second = Inbox(path), Inbox(path)
    with pytest.raises(Retry), second.once("a") as db:
        assert db is not None
        assert work(first, "a", "first")
        db.execute("INSERT INTO done VALUES ('second')")
    assert rows(path) == ["first"]


def test_what_was_read_before_another_wrote_is_not_built_upon(path: Path) -> None:
    first, second = Inbox(path), Inbox(path)
    with pytest.raises(Retry, match="busy"), second.once("b") as db:
        assert db is not None
        db.execute("SELECT count(*) FROM done").fetchall()
        assert work(first, "a", "first")
        db.execute("INSERT INTO done VALUES ('by an old count')")
    assert rows(path) == ["first"]


def test_many_threads_handle_each_message_once(path: Path) -> None:
    inbox = Inbox(path)
    done: list[str] = []

    def run() -> None:
        for number in range(50):
            message_id = str(number)
            while True:
                try:
                    if work(inbox, message_id, message_id):
                        done.append(message_id)
                    break
                except Retry:
                    continue

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, done)) == list(range(50)) == sorted(map(int, rows(path)))


def test_ids_are_forgotten_after_their_time(path: Path) -> None:
    inbox = Inbox(path, keep=0)
    assert work(inbox, "a", "1")
    assert work(Inbox(path, keep=0), "b", "2")
    assert work(inbox, "a", "1 again")
