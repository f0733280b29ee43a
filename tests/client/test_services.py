"""Request-reply with the Python client: handlers answer, and every asker is told something."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from logbroker import AsyncClient
from logbroker.client.calls.services import Asked, Reply
from logbroker.errors import InvalidRequest, NoResponders, RemoteError, RequestTimeout
from tests.client.conftest import ASYNCHRONOUS

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.parametrize("lb", ASYNCHRONOUS, indirect=True),  # handlers run on a loop
]


class PriceOf(msgspec.Struct):
    sku: str


class Price(msgspec.Struct):
    cents: int


async def listening(lb: AsyncClient, service: str) -> None:
    """Return once somebody listens."""

    async def ask() -> bool:
        try:
            await lb.request(service, b"null", timeout=0.001)
        except NoResponders:
            return False
        except (RequestTimeout, RemoteError):
            return True
        return True

    await eventually(ask)


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():  # noqa: ASYNC110 - what is waited for is in the broker
            await asyncio.sleep(0.01)


async def test_a_typed_question_gets_a_typed_answer(lb: AsyncClient) -> None:
    @lb.service("pricing").handler(concurrency=4)
    async def price(request: PriceOf) -> Price:
        return Price(len(request.sku))

    async with price.running():
        await listening(lb, "pricing")
        asked = [lb.request("pricing", PriceOf("x" * size), timeout=5, type=Price) for size in range(20)]
        assert [one.cents for one in await asyncio.gather(*asked)] == list(range(20))
    assert (await price(PriceOf("called"))).cents == 6
    assert price.answered >= 20


async def test_a_handler_may_see_the_whole_request_and_answer_bytes(lb: AsyncClient) -> None:
    @lb.service("echo").handler()
    def echo(body: bytes, asked: Asked) -> bytes:
        return b"%s:%s:%d" % (asked.key, body, asked.headers["n"] == "1")

    async with echo.running():
        await listening(lb, "echo")
        reply = await lb.request("echo", b"\x00\xff", key="k", headers={"n": "1"}, timeout=5)
        assert isinstance(reply, Reply)
        assert reply.value == b"k:\x00\xff:1"


async def test_what_goes_wrong_in_a_handler_is_told_to_the_asker(lb: AsyncClient) -> None:
    @lb.service("failing").handler()
    async def fail(request: PriceOf) -> object:
        if request.sku == "not json":
            return object()
        raise KeyError(request.sku)

    async with fail.running():
        await listening(lb, "failing")
        with pytest.raises(RemoteError, match="KeyError: 'x'"):
            await lb.request("failing", PriceOf("x"), timeout=5)
        with pytest.raises(RemoteError, match="not the PriceOf"):
            await lb.request("failing", b"nonsense", timeout=5)
        with pytest.raises(RemoteError, match="what JSON can say"):
            await lb.request("failing", PriceOf("not json"), timeout=5)
    assert fail.failed >= 3


async def test_nobody_is_said_at_once_and_too_late_is_said_in_time(lb: AsyncClient) -> None:
    began = time.monotonic()
    with pytest.raises(NoResponders):
        await lb.request("nobody", b"x", timeout=30)
    assert time.monotonic() - began < 5

    @lb.service("slow").handler(timeout=5)
    async def slow(request: bytes) -> bytes:
        await asyncio.sleep(0.5)
        return b"late"

    async with slow.running():
        await listening(lb, "slow")
        with pytest.raises(RequestTimeout):
            await lb.request("slow", b"x", timeout=0.1)
        await eventually(lambda: _is(lambda: slow.late >= 1))


async def _is(condition: Callable[[], bool]) -> bool:
    return condition()


async def test_an_answer_of_another_type_is_refused_to_its_asker(lb: AsyncClient) -> None:
    @lb.service("wrong").handler()
    async def wrong(request: bytes) -> str:
        return "no price"

    async with wrong.running():
        await listening(lb, "wrong")
        with pytest.raises(InvalidRequest, match="not the JSON that is expected"):
            await lb.request("wrong", b"x", timeout=5, type=Price)


async def test_a_handler_that_is_broken_off_says_so(lb: AsyncClient) -> None:
    begun = asyncio.Event()

    @lb.service("stopping").handler(drain=0.05)
    async def never(request: bytes) -> bytes:
        if request == b"wait":
            begun.set()
            await asyncio.sleep(60)
        return b""

    async with never.running():
        await listening(lb, "stopping")
        asking = asyncio.create_task(lb.request("stopping", b"wait", timeout=30))
        await begun.wait()
    with pytest.raises(RemoteError, match="stopped before it was done"):
        await asking
