"""Every error has its words in HTTP, and whatever happens the client gets a problem document."""

import asyncio
import logging
from collections.abc import Mapping

import pytest

from logbroker import errors
from logbroker.http_api.docs import error_kinds
from logbroker.http_api.errors import STATUS, look_up, title_of
from tests.http_api.conftest import Door

CONTRACT: Mapping[str, tuple[int, int | None]] = {
    "UNKNOWN_TOPIC_OR_PARTITION": (404, 3),
    "TOPIC_ALREADY_EXISTS": (409, 36),
    "INVALID_TOPIC": (400, 17),
    "INVALID_PARTITIONS": (400, 37),
    "POLICY_VIOLATION": (400, 44),
    "MESSAGE_TOO_LARGE": (413, 10),
    "CORRUPT_MESSAGE": (400, 2),
    "INVALID_CONFIG": (400, 40),
    "UNKNOWN_MEMBER_ID": (404, 25),
    "ILLEGAL_GENERATION": (409, 22),
    "REBALANCE_IN_PROGRESS": (409, 27),
    "GROUP_ID_NOT_FOUND": (404, 69),
    "NON_EMPTY_GROUP": (409, 68),
    "OFFSET_OUT_OF_RANGE": (416, 1),
    "OUT_OF_ORDER_SEQUENCE": (409, 45),
    "INVALID_PRODUCER_EPOCH": (409, 47),
    "THROTTLED": (429, None),
    "QUEUE_NOT_FOUND": (404, None),
    "LEASE_LOST": (409, None),
    "INVALID_REQUEST": (400, None),
    "INVALID_OFFSET": (400, None),
    "HOST_FORBIDDEN": (403, None),
    "TOPIC_RESERVED": (403, 17),
    "TOPIC_IN_USE": (409, 17),
    "CONFIG_CONFLICT": (409, None),
    "QUEUE_FULL": (429, 89),
    "SUBSCRIPTION_NOT_FOUND": (404, None),
    "MESSAGE_NOT_FOUND": (404, None),
    "OPERATION_NOT_FOUND": (404, None),
    "NOT_FOUND": (404, None),
    "PARTITION_DAMAGED": (500, 56),
    "STORAGE_ERROR": (500, 56),
    "DISK_FULL": (507, None),
    "RECOVERING": (503, None),
}


@pytest.mark.parametrize("code", CONTRACT)
def test_the_contract_of_codes_statuses_and_kafka_numbers_holds(code: str) -> None:
    assert look_up(error_kinds()[code]) == CONTRACT[code]


def test_no_error_falls_through_to_500_by_accident() -> None:
    inside = {"DATA_DIRECTORY", "UNREACHABLE", "CLOSED", "USED_AFTER_FORK"}  # never leave through this door
    known = [*STATUS][1:]
    unmapped = {kind.code for kind in error_kinds().values() if not issubclass(kind, tuple(known))}
    assert unmapped - inside == {"INTERNAL"}


def test_an_error_class_that_is_not_in_the_table_takes_the_word_of_its_parent() -> None:
    class Special(errors.MessageTooLarge):
        """A special case."""

    assert look_up(Special) == (413, 10)


def test_titles_are_for_people() -> None:
    assert title_of("OFFSET_OUT_OF_RANGE") == "Offset out of range"


@pytest.mark.asyncio
async def test_an_unexpected_exception_is_500_without_its_text_and_logged_with_the_request_id(
    door: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(type(door.services.engine), "topic", broken)
    answer = await door("GET", "/v1/topics/orders", headers={"X-Request-Id": "the-id"})
    assert answer.failure == (500, "INTERNAL")
    assert b"secret" not in answer.body
    assert any("the-id" in record.getMessage() and record.exc_info for record in caplog.records)
    caplog.clear()


@pytest.mark.asyncio
async def test_unknown_routes_and_methods_answer_problems(door: Door) -> None:
    assert (await door("GET", "/nix")).failure == (404, "NOT_FOUND")
    assert (await door("POST", "/v1/topics/orders:explode", {})).failure == (404, "NOT_FOUND")
    assert (await door("GET", "/v1/topics/")).failure == (404, "NOT_FOUND")
    answer = await door("POST", "/v1/topics/orders", {})
    assert answer.failure == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["Allow"] == "DELETE, GET, PATCH, PUT"


@pytest.mark.asyncio
async def test_a_damaged_partition_is_reported_and_logged(
    door: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await door.topic()

    async def damaged(*_: object, **__: object) -> None:
        raise errors.PartitionDamaged("orders-0 is damaged at byte 77", position=77)

    monkeypatch.setattr(type(door.services.engine), "read", damaged)
    answer = await door("GET", "/v1/topics/orders/partitions/0/records")
    assert answer.failure == (500, "PARTITION_DAMAGED")
    assert answer.json["position"] == 77
    assert [record.levelno for record in caplog.records if record.name == "logbroker.http"] == [logging.ERROR]
    caplog.clear()


@pytest.mark.asyncio
async def test_a_change_is_finished_although_its_client_has_gone(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()
    create = type(door.services.engine).create_topic

    async def slow(*given: object, **named: object) -> object:
        entered.set()
        await go_on.wait()
        return await create(*given, **named)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(type(door.services.engine), "create_topic", slow)
    request = asyncio.create_task(door("PUT", "/v1/topics/orders", {}))
    await entered.wait()
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    go_on.set()
    async with asyncio.timeout(5):
        while (await door("GET", "/v1/topics/orders")).status != 200:
            pass
