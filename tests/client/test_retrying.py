"""What is carried out again after a failure, what is not, and what a client refuses."""

import asyncio
import os
from typing import Any, TypeVar, cast

import pytest

from logbroker import Broker, Client, connect
from logbroker.client.aio.driver import Driver as AsyncDriver
from logbroker.client.batching import bad_records
from logbroker.client.blocking.driver import Driver
from logbroker.client.calls.base import Call
from logbroker.client.calls.groups import Heartbeat, Member, Poll
from logbroker.client.calls.messages import OutgoingMessage, Receive, Send, Settle, Settlement
from logbroker.client.calls.queues import GetQueue
from logbroker.client.calls.records import Outgoing, Produce
from logbroker.client.calls.topics import DeleteTopic, GetTopic, PutTopic
from logbroker.client.durations import to_ms
from logbroker.client.retrying import RETRIES, delays
from logbroker.errors import Closed, InvalidRequest, LogbrokerError, QueueFull, Unreachable, UsedAfterFork
from logbroker.model import ProducerStamp, Record

T = TypeVar("T")

RECORD = Record(b"x")
STAMP = ProducerStamp(1, 0, 0)
MEMBER = Member("g", "m")
REPEATED: list[Call[Any]] = [
    GetTopic("t"),
    GetQueue("q"),
    PutTopic("t", 1, {}),
    DeleteTopic("t", missing_ok=True),
    Produce("t", [Outgoing(RECORD)], producer=STAMP),
    Send("q", [OutgoingMessage(RECORD, dedup_id="d")]),
    Receive("q", 1, 0, "me", "attempt"),
    Settle("q", "ack", [Settlement("r")]),
    Settle("q", "nack", [Settlement("r")]),
    Heartbeat(MEMBER),
]
ONCE: list[Call[Any]] = [
    DeleteTopic("t"),
    Produce("t", [Outgoing(RECORD)]),
    Produce("t", [Outgoing(RECORD)], atomic=True),
    Send("q", [OutgoingMessage(RECORD)]),
    Send("q", [OutgoingMessage(RECORD, dedup_id="d"), OutgoingMessage(RECORD)]),
    Poll(MEMBER, [], 1, 0),
]


class Failing:
    """A carrier that fails ``failures`` times and then answers."""

    def __init__(self, error: LogbrokerError, failures: int) -> None:
        self.error = error
        self.left = failures
        self.calls = 0

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def call(self, call: Call[T]) -> T:
        self.calls += 1
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return cast(T, "answer")


class AsyncFailing:
    """The same for the asynchronous driver."""

    def __init__(self, inner: Failing) -> None:
        self.inner = inner

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def call(self, call: Call[T]) -> T:
        return self.inner.call(call)


def outcome(call: Call[Any], carrier: Failing, *, asynchronous: bool) -> Any:
    """The answer of the call, or its error."""
    if asynchronous:

        async def ask() -> Any:
            driver = AsyncDriver(AsyncFailing(carrier))
            await driver.open()
            return await driver(call)

        work: Any = lambda: asyncio.run(ask())  # noqa: E731 - one expression, called once below
    else:
        driver = Driver(carrier)
        driver.open()
        work = lambda: driver(call)  # noqa: E731 - as above
    try:
        return work()
    except LogbrokerError as error:
        return error


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries do not wait."""
    monkeypatch.setattr("logbroker.client.retrying.FIRST_S", 0.0)


@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize("call", REPEATED)
def test_what_does_no_harm_twice_is_tried_again(call: Call[Any], asynchronous: bool) -> None:
    carrier = Failing(Unreachable("gone"), RETRIES)
    assert outcome(call, carrier, asynchronous=asynchronous) == "answer"
    assert carrier.calls == RETRIES + 1


@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize("call", ONCE)
def test_what_might_happen_twice_is_not_tried_again(call: Call[Any], asynchronous: bool) -> None:
    carrier = Failing(Unreachable("gone"), 1)
    assert outcome(call, carrier, asynchronous=asynchronous) is carrier.error
    assert carrier.calls == 1


@pytest.mark.parametrize("asynchronous", [True, False])
def test_what_cannot_help_is_not_tried_again(asynchronous: bool) -> None:
    carrier = Failing(InvalidRequest("no"), 1)
    assert outcome(GetTopic("t"), carrier, asynchronous=asynchronous) is carrier.error
    carrier = Failing(QueueFull("full"), 99)
    assert outcome(Send("q", [OutgoingMessage(RECORD, dedup_id="d")]), carrier, asynchronous=asynchronous) is carrier.error
    assert carrier.calls == RETRIES + 1


def test_the_delays_double_and_are_never_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logbroker.client.retrying.FIRST_S", 0.1)
    for bound, delay in zip([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5], delays(8), strict=True):
        assert bound / 2 <= delay <= bound
    assert list(delays(3)) != list(delays(3))


def test_a_client_is_refused_after_a_fork() -> None:
    driver = Driver(Failing(Unreachable("gone"), 0))
    driver.open()
    child = os.fork()
    if child == 0:
        try:
            driver(GetTopic("t"))
        except UsedAfterFork:
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.asyncio
async def test_nobody_at_the_address_is_unreachable() -> None:
    async with connect("http://127.0.0.1:1") as lb:
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1"):
            await lb.topics.get("orders")
    with Client("127.0.0.1:1") as sync, pytest.raises(Unreachable):
        sync.topics.get("orders")


@pytest.mark.parametrize("url", ["ftp://host", "http://", "https://host", "http://host:port"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="no URL"):
        Client(url)
    with pytest.raises(InvalidRequest, match="no URL"):
        connect(url)


@pytest.mark.asyncio
async def test_a_client_is_used_inside_its_context_and_opened_once() -> None:
    broker = Broker.memory()
    with pytest.raises(Closed):
        await broker.topics.list()
    async with broker as lb:
        with pytest.raises(Closed):
            await lb.__aenter__()
        producer = await lb.producer("orders").__aenter__()
        await lb.topics.create("orders")
        producer.send_nowait("written when the client is left")
    with pytest.raises(Closed):
        await broker.topics.list()
    with pytest.raises(Closed):
        producer.send_nowait("late")


@pytest.mark.asyncio
async def test_what_was_sent_is_there_after_a_restart(tmp_path: Any) -> None:
    async with Broker.open(tmp_path) as lb:
        await lb.topics.create("orders")
        async with lb.producer("orders", linger="1m") as producer:
            producer.send_nowait("lingering")
    async with Broker.open(tmp_path) as lb:
        assert [record.text() async for record in lb.read("orders")] == ["lingering"]


def test_which_records_a_refusal_is_about() -> None:
    named = InvalidRequest("no", errors=[{"pointer": "#/records/2/value"}, {"pointer": "#/records/9"}])
    assert bad_records(named, 4) == {2}
    assert bad_records(InvalidRequest("no"), 2) == {0, 1}


@pytest.mark.parametrize(
    ("given", "ms"),
    [("250ms", 250), ("1.5s", 1_500), ("1h30m", 5_400_000), ("2 d", 172_800_000), (0.1, 100), (1, 1_000), (0.0001, 1)],
)
def test_durations(given: Any, ms: int) -> None:
    assert to_ms(given) == ms


@pytest.mark.parametrize(
    "given", ["", "5", "5 minutes", "s", True, None, float("nan"), float("inf"), "9" * 400 + "d", "-1s"]
)
def test_what_is_no_duration_is_refused(given: Any) -> None:
    with pytest.raises(InvalidRequest, match="no duration"):
        to_ms(given)


def test_leaving_a_client_closes_every_part_also_behind_one_that_fails() -> None:
    closed: list[str] = []

    class Noting(Failing):
        def close(self) -> None:
            closed.append("carrier")

    def failing() -> None:
        closed.append("first")
        raise QueueFull("what waited could not be written")

    driver = Driver(Noting(Unreachable("gone"), 0))
    driver.open()
    driver.opened("first", failing)
    driver.opened("second", lambda: closed.append("second"))
    with pytest.raises(QueueFull):
        driver.close()
    assert closed == ["first", "second", "carrier"]
