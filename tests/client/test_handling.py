"""What a worker makes of a message, and what becomes of it: without a broker."""

import asyncio
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from logbroker.client.calls.messages import Delivery, Settlement
from logbroker.client.handling import (
    DeadLetter,
    Retry,
    Settling,
    TimedOut,
    Undecodable,
    decoder_of,
    settling_of,
    wanted_by,
)
from logbroker.client.payloads import ERROR_CHARACTERS, Headers, record_of
from logbroker.errors import InvalidRequest, QueueFull


class Order(msgspec.Struct):
    sku: str
    count: int = 1


@dataclass
class Price:
    cents: int


def delivery(value: bytes | None) -> Delivery:
    return Delivery("id", "receipt", 0, 1, 0, None, 0, 0, 0, 0, None, value, Headers())


# -- what a handler takes ----------------------------------------------------------------------------------------------


def test_a_handler_says_by_its_annotations_what_it_takes() -> None:
    async def typed(order: Order, context: Any) -> None: ...

    def bare(message): ...  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - what a user may write

    def whole(message: Delivery) -> None: ...

    assert wanted_by(typed) == (Order, True, True)
    assert wanted_by(bare) == (Delivery, False, False)
    assert wanted_by(whole) == (Delivery, False, False)


def test_a_function_that_cannot_be_a_handler_is_refused_at_once() -> None:
    def nothing() -> None: ...

    def too_much(a: str, b: Any, c: Any) -> None: ...

    def unknown(a: "NoSuchType") -> None: ...  # type: ignore[name-defined]  # noqa: F821 - that is the point

    for handler in (nothing, too_much, unknown):
        with pytest.raises(InvalidRequest, match=handler.__name__):
            wanted_by(handler)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (bytes, b"\xff", b"\xff"),
        (bytes, None, b""),
        (str, "é".encode(), "é"),
        (Order, b'{"sku":"x"}', Order("x")),
        (Price, b'{"cents":7}', Price(7)),
        (dict, b'{"a":1}', {"a": 1}),
        (dict[str, int], b'{"a":1}', {"a": 1}),
        (Any, b"[1]", [1]),
    ],
)
def test_a_message_becomes_what_its_handler_takes(kind: Any, value: bytes | None, message: Any) -> None:
    assert decoder_of(kind)(delivery(value)) == message


def test_a_handler_may_take_the_delivery_itself() -> None:
    given = delivery(b"x")
    assert decoder_of(Delivery)(given) is given


@pytest.mark.parametrize(("kind", "value"), [(Order, b"{}"), (Order, b"not json"), (Price, b'{"cents":"x"}'), (dict, None)])
def test_a_message_that_is_something_else_is_told_apart(kind: Any, value: bytes | None) -> None:
    with pytest.raises(Undecodable, match="is not the"):
        decoder_of(kind)(delivery(value))


# -- what becomes of a message -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "settling"),
    [
        (None, Settling("ack", Settlement("r"))),
        (Retry(), Settling("nack", Settlement("r", None, "retry"))),
        (Retry("busy", after="30s"), Settling("nack", Settlement("r", 30_000, "busy"))),
        (Retry("past", after=-1), Settling("nack", Settlement("r", 0, "past"))),
        (Retry("x" * 5_000), Settling("nack", Settlement("r", None, "x" * ERROR_CHARACTERS))),
        (DeadLetter("half \ud800"), Settling("reject", Settlement("r", error="half \\ud800"))),
        (DeadLetter("no such user"), Settling("reject", Settlement("r", error="no such user"))),
        (Undecodable("no JSON"), Settling("reject", Settlement("r", error="no JSON"))),
        (TimedOut("too long"), Settling("nack", Settlement("r", error="TimedOut: too long"))),
        (QueueFull("the other queue"), Settling("nack", Settlement("r", error="QueueFull: the other queue"))),
        (asyncio.CancelledError(), Settling("release", Settlement("r"))),
        (KeyboardInterrupt(), Settling("release", Settlement("r"))),
    ],
)
def test_how_a_handler_ended_decides_what_becomes_of_its_message(error: BaseException | None, settling: Settling) -> None:
    assert settling_of("r", error) == settling


def test_a_failure_is_told_with_the_way_to_it() -> None:
    def inner() -> None:
        raise ValueError("x" * 10_000)

    try:
        inner()
    except ValueError as error:
        said = settling_of("r", error).entry.error
        assert said is not None
        assert len(said) == ERROR_CHARACTERS
        short = settling_of("r", error.with_traceback(error.__traceback__)).entry
        assert short.error is not None
    try:
        raise KeyError("sku")
    except KeyError as error:
        said = settling_of("r", error).entry.error
    assert said is not None
    assert said.startswith("KeyError: 'sku'\n")
    assert "test_handling.py" in said


def test_a_time_to_wait_that_is_none_is_refused_where_it_is_given() -> None:
    with pytest.raises(InvalidRequest, match="no duration"):
        Retry(after="soon")


# -- what a caller gives -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "key", "headers"),
    [
        ("half \ud800", None, {}),
        ({"half": "\ud800"}, None, {}),
        (object(), None, {}),
        ("x", 5, {}),
        ("x", "\ud800", {}),
        ("x", None, {"a": 5}),
        ("x", None, {5: "a"}),
        ("x", None, ["a"]),
        ("x", None, 5),
        ("x", None, {"a": "\ud800"}),
    ],
)
def test_what_is_no_record_is_refused_before_it_is_sent(value: Any, key: Any, headers: Any) -> None:
    with pytest.raises(InvalidRequest):
        record_of(value, key, headers)
