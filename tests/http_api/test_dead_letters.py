"""Looking into a queue over HTTP, and what can be done with dead letters."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from logbroker.clock import ManualClock
from tests.http_api.conftest import Door
from tests.http_api.test_queues import Queue, values

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def queue(door: Door, clock: ManualClock) -> AsyncIterator[Queue]:
    yield Queue(door, clock)
    await door.services.operations.stop()
    await door.services.queues.stop()


async def peek(queue: Queue, state: str, query: str = "") -> list[Any]:
    answer = await queue.door("GET", f"{queue.path}/messages?state={state}{query}")
    assert answer.status == 200, answer
    items: list[Any] = answer.json["items"]
    return items


async def bury(queue: Queue, *texts: str, reason: str = "bad") -> None:
    """Make dead letters."""
    await queue.send(*texts)
    for message in await queue.receive(len(texts)):
        assert (await queue.reject(message, reason)).status == 200


async def finished(queue: Queue, operation: Any) -> Any:
    async with asyncio.timeout(5):
        while True:
            told = (await queue.door("GET", f"/v1/operations/{operation['id']}")).json
            if told["state"] != "running":
                return told
            await asyncio.sleep(0.01)


async def test_a_message_can_be_looked_at_in_every_state(queue: Queue) -> None:
    await queue.create(max_attempts=3)
    await bury(queue, "dead")
    await queue.send("retrying")
    await queue.nack(await queue.one(), delay_ms=9_000, error="oops")
    await queue.send("held")
    held = await queue.one(consumer="w")
    await queue.send("ready")
    await queue.send("delayed", delay_ms=9_000)
    for state in ("dead", "retrying", "held", "ready", "delayed"):
        [message] = await peek(queue, "in_flight" if state == "held" else state)
        assert message["value"] == state
        by_id = await queue.door("GET", f"{queue.path}/messages/{message['id']}")
        assert by_id.json == message
    [held_now] = await peek(queue, "in_flight")
    assert (held_now["consumer"], held_now["deliveries"]) == ("w", held["deliveries"])
    [dead] = await peek(queue, "dead")
    assert (dead["reason"], dead["last_error"], dead["history"][0]["reason"]) == ("rejected", "bad", "rejected")
    assert values(await queue.receive(10)) == ["ready"]
    assert await queue.counts() == {"ready": 0, "in_flight": 2, "delayed": 1, "retrying": 1, "dead": 1, "parked": 0}


async def test_pages_go_through_everything_once(queue: Queue) -> None:
    await queue.create(partitions=2)
    await bury(queue, *(str(number) for number in range(25)))
    seen, token = [], ""
    while True:
        page = (await queue.door("GET", f"{queue.path}/messages?state=dead&page_size=4{token}")).json
        seen += values(page["items"])
        if page["next_page_token"] is None:
            break
        token = f"&page_token={page['next_page_token']}"
    assert sorted(map(int, seen)) == list(range(25))
    lines = await queue.door("GET", f"{queue.path}/messages?state=dead", headers={"Accept": "application/x-ndjson"})
    assert sorted(int(line["value"]) for line in lines.lines) == list(range(25))


async def test_letters_are_found_by_simple_filters(queue: Queue) -> None:
    await queue.create()
    await bury(queue, "a", reason="timeout in db")
    await bury(queue, "b", reason="no such user")
    assert values(await peek(queue, "dead", "&error=timeout")) == ["a"]
    assert values(await peek(queue, "dead", "&reason=rejected")) == ["a", "b"]
    assert await peek(queue, "dead", "&key=k") == []


async def test_one_letter_is_edited_and_sent_back(queue: Queue) -> None:
    await queue.create()
    await bury(queue, "wrong")
    [letter] = await peek(queue, "dead")
    answer = await queue.door("POST", f"{queue.path}/messages/{letter['id']}:redrive", {"value": "right"})
    assert answer.status == 200, answer
    message = await queue.one()
    assert (message["id"], message["value"], message["failures"]) == (letter["id"], "right", 0)
    assert await peek(queue, "dead") == []
    again = await queue.door("POST", f"{queue.path}/messages/{letter['id']}:redrive")
    assert again.failure == (404, "MESSAGE_NOT_FOUND")


async def test_a_dry_run_only_counts_and_a_redrive_brings_all_back_once(queue: Queue) -> None:
    await queue.create(partitions=2)
    await bury(queue, *(str(number) for number in range(30)))
    dry = await queue("redrive", {})
    assert (dry.status, dry.json["matched"], len(dry.json["sample"])) == (200, 30, 10)
    begun = await queue("redrive", {"dry_run": False})
    assert begun.status == 202
    told = await finished(queue, begun.json["operation"])
    assert (told["state"], told["matched"], told["done"], told["failed"]) == ("done", 30, 30, 0)
    assert sorted(map(int, values(await queue.receive(100)))) == list(range(30))
    assert (await queue.counts())["dead"] == 0


async def test_discard_needs_the_name_and_drops_what_matches(queue: Queue) -> None:
    await queue.create()
    await bury(queue, "a", reason="x")
    await bury(queue, "b", reason="y")
    assert (await queue("discard", {"confirm": "other"})).failure == (400, "INVALID_REQUEST")
    begun = await queue("discard", {"confirm": "jobs", "filter": {"error": "x"}})
    assert (await finished(queue, begun.json["operation"]))["done"] == 1
    assert values(await peek(queue, "dead")) == ["b"]


async def test_a_slow_redrive_is_cancelled_and_gone_on_with(queue: Queue) -> None:
    await queue.create()
    await bury(queue, *(str(number) for number in range(120)))
    begun = (await queue("redrive", {"dry_run": False, "rate": 40})).json["operation"]
    await asyncio.sleep(0.05)
    cancelled = (await queue.door("POST", f"/v1/operations/{begun['id']}:cancel")).json
    assert cancelled["state"] == "cancelled"
    assert 0 < (await queue.counts())["dead"] < 120
    await queue.door("POST", f"/v1/operations/{begun['id']}:resume")
    await queue.door("POST", f"/v1/operations/{begun['id']}:cancel")
    rest = (await queue("redrive", {"dry_run": False})).json["operation"]
    await finished(queue, rest)
    assert sorted(map(int, values(await queue.receive(200)))) == list(range(120))


async def test_a_redrive_at_a_low_rate_begins_with_one_letter_and_not_with_a_burst(queue: Queue) -> None:
    await queue.create()
    await bury(queue, "a", "b", "c")
    begun = (await queue("redrive", {"dry_run": False, "rate": 0.001})).json["operation"]
    assert values(await queue.receive(5, wait_ms=5_000)) == ["a"]
    await queue.door("POST", f"/v1/operations/{begun['id']}:cancel")
    assert (await queue.counts())["dead"] == 2


async def test_a_delayed_message_is_rescheduled_promoted_and_cancelled(queue: Queue) -> None:
    await queue.create()
    [first] = await queue.send("first", delay_ms=50_000)
    [second] = await queue.send("second", delay_ms=50_000)
    moved = await queue.door("PATCH", f"{queue.path}/messages/{first['id']}", {"delay_ms": 90_000})
    assert (moved.status, moved.json["due_ms"]) == (200, queue.clock.now().wall_ms + 90_000)
    assert (await queue.door("POST", f"{queue.path}/messages/{second['id']}:promote")).status == 200
    assert values(await queue.receive(5)) == ["second"]
    path = f"{queue.path}/messages/{first['id']}"
    assert (await queue.door("DELETE", path)).json == {"outcome": "cancelled"}
    assert (await queue.door("DELETE", path)).json == {"outcome": "already_delivered"}
    assert (await queue.door("DELETE", f"{queue.path}/messages/{second['id']}")).json == {"outcome": "already_delivered"}
    await queue.advance(100_000)
    assert "first" not in values(await queue.receive(5))


async def test_the_oldest_letters_go_beyond_the_bound(queue: Queue) -> None:
    await queue.create(dlq={"max_size": 3})
    for number in range(6):
        await bury(queue, str(number))
    await asyncio.sleep(0.05)
    assert values(await peek(queue, "dead")) == ["3", "4", "5"]


async def test_a_full_dead_letter_topic_that_rejects_holds_the_message(queue: Queue) -> None:
    await queue.create(dlq={"max_size": 1, "overflow": "reject"})
    await bury(queue, "first")
    await asyncio.sleep(0.05)
    await queue.send("second")
    assert (await queue.reject(await queue.one())).failure == (429, "QUEUE_FULL")
    assert (await queue.counts())["in_flight"] == 1
    begun = await queue("discard", {"confirm": "jobs"})
    await finished(queue, begun.json["operation"])
