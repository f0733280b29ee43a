"""Deduplication of sends, and receives that are repeated."""

from logbroker.queues.attempts import MAX_ATTEMPTS, REMEMBERED_MS, ReceiveAttempts
from logbroker.queues.dedup import Accepted, DedupWindow
from logbroker.queues.positions import Position, Receipt, Source

WINDOW = 1_000


def window(*accepted: tuple[str, int]) -> DedupWindow[int]:
    ids = DedupWindow[int](WINDOW)
    for place, (dedup_id, at) in enumerate(accepted):
        ids.remember(dedup_id, Accepted(place, at))
    return ids


def test_t31_a_repeated_send_gets_the_place_of_the_first() -> None:
    ids = window(("a", 0))
    assert ids.original("a", 999) == Accepted(0, 0)
    assert ids.original("b", 999) is None


def test_t31_a_send_under_way_is_neither_new_nor_a_duplicate() -> None:
    ids = DedupWindow[int](WINDOW)
    ids.begin("a")
    assert (ids.is_under_way("a"), ids.original("a", 0)) == (True, None)
    ids.end("a", None)
    assert (ids.is_under_way("a"), ids.original("a", 0)) == (False, None)
    ids.begin("a")
    ids.end("a", Accepted(7, 5))
    assert ids.original("a", 6) == Accepted(7, 5)


def test_t32_the_window_starts_at_the_first_send_and_duplicates_do_not_extend_it() -> None:
    ids = window(("a", 0), ("a", 900))
    assert ids.original("a", 999) == Accepted(0, 0)
    assert ids.original("a", 1_000) is None
    assert len(ids) == 0


def test_t32_after_its_window_an_id_is_new_again() -> None:
    ids = window(("a", 0), ("b", 500), ("a", 1_000))
    assert ids.original("a", 1_600) == Accepted(2, 1_000)
    assert ids.original("b", 1_600) is None


def test_t32_ids_may_come_in_any_order_of_time() -> None:
    ids = window(("late", 900), ("early", 0))
    assert ids.original("early", 1_000) is None
    assert ids.original("late", 1_000) == Accepted(0, 900)


def receipts(n: int) -> tuple[Receipt, ...]:
    return (Receipt(1, 0, Position(Source.SOURCE, n), n, 1),)


def test_t06_a_repeated_receive_attempt_gets_the_same_leases() -> None:
    attempts = ReceiveAttempts()
    attempts.remember("x", receipts(1), 0)
    assert attempts.given("x", REMEMBERED_MS - 1) == receipts(1)
    assert attempts.given("x", REMEMBERED_MS) is None
    assert attempts.given("y", 0) is None


def test_attempts_are_bounded_in_time_and_number() -> None:
    attempts = ReceiveAttempts()
    attempts.remember("old", receipts(0), 0)
    for n in range(MAX_ATTEMPTS):
        attempts.remember(str(n), receipts(n), 1)
    assert (len(attempts), attempts.given("old", 1)) == (MAX_ATTEMPTS, None)
    attempts.remember("new", receipts(5), 1 + REMEMBERED_MS)
    assert (len(attempts), attempts.given("new", 1 + REMEMBERED_MS)) == (1, receipts(5))
