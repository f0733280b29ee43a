"""What tests of groups do over and over: join, poll, let a rebalance end."""

import asyncio
from typing import Any

from tests.http_api.conftest import Answer, Door

GROUP = "/v1/groups/g"
FROM_START = {"topics": ["orders"], "auto_offset_reset": "earliest"}


async def join(door: Door, **wish: Any) -> "asyncio.Task[Answer]":
    return asyncio.create_task(door("POST", f"{GROUP}/members", {**FROM_START, **wish}))


async def joined(door: Door, **wish: Any) -> str:
    """The id of a member that came in at once, because nobody had to be waited for."""
    answer = await (await join(door, **wish))
    assert answer.status == 201, answer
    member_id: str = answer.json["member_id"]
    return member_id


async def poll(door: Door, member_id: str, **options: Any) -> Any:
    answer = await door("POST", f"{GROUP}/members/{member_id}:poll", options)
    assert answer.status == 200, answer
    return answer.json


async def stable(door: Door, *member_ids: str) -> list[Any]:
    """Let members poll in turn until no rebalance is under way; the last answer of each."""
    async with asyncio.timeout(5):
        while True:
            answers = [await poll(door, member_id, max_records=1, commit="none") for member_id in member_ids]
            if not any(one["rebalancing"] or one["rebalanced"] for one in answers):
                return answers
            await asyncio.sleep(0.001)


async def two_members(door: Door) -> tuple[str, str]:
    first = await joined(door)
    joining = await join(door)
    async with asyncio.timeout(5):
        while not joining.done():
            await poll(door, first, max_records=1, commit="none")
            await asyncio.sleep(0.001)
    second: str = (await joining).json["member_id"]
    await stable(door, first, second)
    return first, second


def numbers(answer: Any) -> list[int]:
    return [where["partition"] for where in answer["assignment"]]


def values(answer: Any) -> list[str]:
    return [record["value"] for record in answer["records"]]


async def committed(door: Door) -> dict[int, int]:
    offsets = (await door("GET", f"{GROUP}/offsets")).json["offsets"]
    return {one["partition"]: one["offset"] for one in offsets}
