"""Request-reply over HTTP: one answer to each question, or its timeout, whatever happens to responders."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from logbroker.broker.request_reply import LISTENS_MS, queue_of
from logbroker.clock import ManualClock
from tests.http_api.conftest import Answer, Door, eventually

pytestmark = pytest.mark.asyncio


class Service:
    """One service behind the door, asked and answered through it."""

    def __init__(self, door: Door, clock: ManualClock, name: str = "pricing") -> None:
        self.door = door
        self.clock = clock
        self.name = name
        self.path = f"/v1/services/{name}"

    async def ask(self, value: str = "how much?", timeout_ms: int = 5_000, **options: Any) -> Answer:
        return await self.door("POST", f"{self.path}:request?timeout_ms={timeout_ms}", {"value": value}, **options)

    async def serve(self, count: int = 1, wait_ms: int = 0, **fields: Any) -> list[Any]:
        answer = await self.door("POST", f"{self.path}:serve", {"max": count, "wait_ms": wait_ms, **fields})
        assert answer.status == 200, answer
        requests: list[Any] = answer.json["requests"]
        return requests

    async def reply(self, request: Any, **body: Any) -> Answer:
        return await self.door("POST", f"/v1/replies/{request['token']}", body)

    async def asked(self, value: str = "how much?", **fields: Any) -> "tuple[asyncio.Task[Answer], Any]":
        """A question that waits, and how a responder got it."""
        asking = asyncio.create_task(self.ask(value, **fields))
        [request] = await self.serve(wait_ms=5_000)
        return asking, request

    async def counts(self) -> Any:
        answer = await self.door("GET", f"/v1/queues/{queue_of(self.name)}")
        return answer.json["counts"]

    def counted(self, name: str) -> float:
        family = self.door.services.metrics.counter(f"requestreply_{name}_total", "", ("service",))
        return family.values.get((self.name,), 0)


@pytest_asyncio.fixture
async def service(door: Door, clock: ManualClock) -> AsyncIterator[Service]:
    service = Service(door, clock)
    assert await service.serve() == []  # from now on somebody listens
    yield service
    await door.services.queues.stop()


# -- asking ----------------------------------------------------------------------------------------------------------


async def test_a_question_gets_the_answer_of_a_responder(service: Service) -> None:
    asking, request = await service.asked("how much?", timeout_ms=5_000)
    assert (request["value"], request["deliveries"]) == ("how much?", 1)
    assert request["headers"] == []
    assert request["deadline_ms"] == service.clock.now().wall_ms + 5_000
    assert (await service.reply(request, value_json={"price": 7})).status == 204
    answer = await asking
    assert (answer.status, answer.headers["Content-Type"], answer.json) == (200, "application/json", {"price": 7})
    assert (await service.counts())["ready"] == (await service.counts())["in_flight"] == 0


async def test_a_question_and_an_answer_may_be_raw_bytes(service: Service) -> None:
    asking = asyncio.create_task(
        service.door(
            "POST",
            f"{service.path}:request",
            b"\x00\xff",
            headers={"Content-Type": "application/octet-stream", "Logbroker-Key": "k", "Logbroker-Header-Lang": "de"},
        )
    )
    [request] = await service.serve(wait_ms=5_000)
    assert (request["value_b64"], request["key"], request["headers"]) == ("AP8=", "k", [["Lang", "de"]])
    await service.door(
        "POST",
        f"/v1/replies/{request['token']}",
        b"<b>7</b>",
        headers={"Content-Type": "text/html", "Logbroker-Header-Cost": "3"},
    )
    answer = await asking
    assert (answer.body, answer.headers["Content-Type"]) == (b"<b>7</b>", "text/html")
    assert answer.headers["Logbroker-Header-Cost"] == "3"
    assert "sandbox" in answer.headers["Content-Security-Policy"]


async def test_a_requester_may_have_the_answer_in_an_envelope(service: Service) -> None:
    asking, request = await service.asked(headers={"Accept": "application/json"})
    await service.reply(request, value_b64="AP8=", headers=[["cost", "3"]])
    assert (await asking).json == {"headers": [["cost", "3"]], "value_b64": "AP8="}


async def test_an_error_of_the_responder_is_told_as_one(service: Service) -> None:
    asking, request = await service.asked()
    await service.reply(request, error="no such sku")
    answer = await asking
    assert answer.failure == (502, "REMOTE_ERROR")
    assert (answer.json["detail"], answer.json["service"]) == ("no such sku", "pricing")


# -- nobody, or too late ---------------------------------------------------------------------------------------------


async def test_without_a_responder_the_answer_comes_at_once_and_nothing_is_sent(door: Door, clock: ManualClock) -> None:
    service = Service(door, clock)
    assert (await service.ask()).failure == (503, "NO_RESPONDERS")
    assert (await door("GET", "/v1/queues")).json["items"] == []
    assert service.counted("no_responders") == 1


async def test_a_responder_counts_as_listening_for_ten_seconds_after_its_last_serve(service: Service) -> None:
    service.clock.advance(LISTENS_MS)
    asking, request = await service.asked()
    await service.reply(request, value="7")
    assert (await asking).status == 200
    service.clock.advance(LISTENS_MS + 1)
    assert (await service.ask()).failure == (503, "NO_RESPONDERS")


async def test_a_question_that_nobody_answers_in_time_says_so_and_is_given_to_nobody_later(service: Service) -> None:
    assert (await service.ask(timeout_ms=50)).failure == (504, "REQUEST_TIMEOUT")
    assert service.counted("timeouts") == 1
    assert await service.serve() == []


async def test_a_late_reply_is_refused_counted_and_settles_its_request(service: Service) -> None:
    asking, request = await service.asked(timeout_ms=100)
    assert (await asking).failure == (504, "REQUEST_TIMEOUT")
    assert (await service.counts())["in_flight"] == 1
    assert (await service.reply(request, value="7")).failure == (410, "REQUEST_GONE")
    assert service.counted("late_replies") == 1
    assert (await service.counts())["in_flight"] == 0


async def test_a_second_reply_is_refused(service: Service) -> None:
    asking, request = await service.asked()
    await service.reply(request, value="first")
    assert (await service.reply(request, value="second")).failure == (410, "REQUEST_GONE")
    assert (await asking).body == b"first"


async def test_a_requester_that_leaves_takes_its_question_back(service: Service) -> None:
    with pytest.raises(TimeoutError):
        await service.ask(timeout=aiohttp.ClientTimeout(total=0.1))
    await eventually(lambda: not service.door.services.request_reply._waiting)
    assert await service.serve() == []


async def test_what_is_written_to_the_queue_of_a_service_by_others_is_no_question(service: Service) -> None:
    answer = await service.door("POST", f"/v1/queues/{queue_of(service.name)}/messages", {"value": "hello?"})
    assert answer.status == 200
    assert await service.serve() == []
    assert service.counted("gone") == 1
    await eventually(lambda: not service.door.services.request_reply._background)
    assert (await service.counts())["in_flight"] == 0


# -- responders that fail --------------------------------------------------------------------------------------------


async def test_the_request_of_a_responder_that_died_goes_to_another_and_whoever_answers_first_is_heard(
    service: Service,
) -> None:
    asking, dead = await service.asked(timeout_ms=60_000)
    service.clock.advance(30_000)
    service.door.services.queues.get(queue_of(service.name)).wake()
    [again] = await service.serve(wait_ms=5_000)
    assert (again["value"], again["deliveries"]) == ("how much?", 2)
    assert (await service.reply(dead, value="from the dead")).status == 204
    assert (await service.reply(again, value="late")).failure == (410, "REQUEST_GONE")
    assert (await asking).body == b"from the dead"
    assert (await service.counts())["in_flight"] == 0


async def test_a_thousand_questions_get_their_own_answers_from_eight_responders(service: Service) -> None:
    answered: Counter[str] = Counter()

    async def respond() -> None:
        while True:
            for request in await service.serve(20, wait_ms=5_000):
                answered[request["value"]] += 1
                await service.reply(request, value=f"re: {request['value']}")

    responders = [asyncio.create_task(respond()) for _ in range(8)]
    answers = await asyncio.gather(*(service.ask(f"q{number}", timeout_ms=30_000) for number in range(1_000)))
    for responder in responders:
        responder.cancel()
    assert [answer.body.decode() for answer in answers] == [f"re: q{number}" for number in range(1_000)]
    assert set(answered.values()) == {1}
    await asyncio.gather(*responders, return_exceptions=True)


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/services/a b:request", {"value": "x"}, 400, "INVALID_TOPIC"),
        (f"/v1/services/{'x' * 240}:serve", {}, 400, "INVALID_TOPIC"),
        ("/v1/services/pricing:request?timeout_ms=60001", {"value": "x"}, 400, "INVALID_REQUEST"),
        ("/v1/services/pricing:request", {"value": "x", "value_b64": ""}, 400, "INVALID_REQUEST"),
        ("/v1/services/pricing:request", {}, 400, "INVALID_REQUEST"),
        ("/v1/services/pricing:serve", {"max": 0}, 400, "INVALID_REQUEST"),
        ("/v1/replies/nonsense", {"value": "x"}, 400, "INVALID_REQUEST"),
        ("/v1/replies/a.b", {"value": "x", "error": "y"}, 400, "INVALID_REQUEST"),
        ("/v1/replies/a.b", {}, 400, "INVALID_REQUEST"),
    ],
)
async def test_bad_input_is_refused_by_name(service: Service, path: str, body: Any, status: int, code: str) -> None:
    assert (await service.door("POST", path, body)).failure == (status, code)


async def test_requesters_are_sent_away_when_the_broker_stops(service: Service) -> None:
    asking, _ = await service.asked()
    service.door.services.request_reply.end_waiting()
    assert (await asking).failure == (503, "RECOVERING")
