"""What a test asks of a broker: that a queue is worked off, and that something was sent.

What lives here: questions through the client, so they work over any carrier. What may not: the insides of a broker.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from logbroker.client.aio.client import AsyncClient
from logbroker.client.calls.queues import QueueInfo
from logbroker.client.calls.records import Record
from logbroker.client.durations import Duration, to_ms

_LOOK_S = 0.005
_SHOWN = 20


async def drain(lb: AsyncClient, queue: str, *, timeout: Duration = "10s") -> QueueInfo:
    """Wait until a queue has nothing left to do but dead letters. Raises AssertionError saying what is left."""
    seconds = to_ms(timeout) / 1_000
    try:
        async with asyncio.timeout(seconds):
            while _left(info := await lb.queue(queue).stats()):  # noqa: ASYNC110 - what is waited for is in a broker
                await asyncio.sleep(_LOOK_S)
            return info
    except TimeoutError:
        info = await lb.queue(queue).stats()
        raise AssertionError(f"queue {queue!r} is not drained after {seconds:g} s: {_left(info)}") from None


def _left(info: QueueInfo) -> dict[str, int]:
    counts = info.counts
    states = ("ready", "in_flight", "delayed", "retrying")
    return {state: count for state in states if (count := getattr(counts, state))}


async def assert_sent(
    lb: AsyncClient, topic: str, *, match: Any = None, key: str | None = None, count: int | None = None
) -> list[Record]:
    """The records of a topic (or queue) that match, of which there has to be one, or exactly ``count``.

    ``match``: an object matches when it has those members, text and bytes when they are equal. Raises AssertionError.
    """
    everything = [record async for record in lb.read(topic)]
    found = [record for record in everything if _matches(record, match, key)]
    if len(found) == count if count is not None else found:
        return found
    wanted = " ".join(f"{name}={value!r}" for name, value in {"match": match, "key": key}.items() if value is not None)
    shown = "\n".join(f"  {record.key!r}: {record.value!r}" for record in everything[:_SHOWN])
    many = "" if count is None else f", not {count},"
    raise AssertionError(
        f"{len(found)}{many} of {len(everything)} records of {topic!r} match {wanted or 'anything'}:\n{shown}"
    )


def _matches(record: Record, match: Any, key: str | None) -> bool:
    if key is not None and record.key != key.encode():
        return False
    if match is None:
        return True
    if isinstance(match, bytes):
        return record.value == match
    if isinstance(match, str):
        return record.value == match.encode()
    try:
        return _has(record.json(), match)
    except Exception:  # no JSON: then it is not what was asked for
        return False


def _has(value: Any, match: Any) -> bool:
    """Whether ``value`` has every member of ``match``, at any depth."""
    if isinstance(match, Mapping):
        return isinstance(value, Mapping) and all(name in value and _has(value[name], match[name]) for name in match)
    return bool(value == match)
