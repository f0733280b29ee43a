"""Segments over HTTP: what is in them, looking for damage, copies for a backup."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from logbroker.clock import ManualClock
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.log.files.memory import MemoryFiles
from tests.engine.conftest import started
from tests.http_api.conftest import Door

pytestmark = pytest.mark.asyncio

SEGMENTS = "/v1/storage/orders/0/segments"


@pytest.fixture
def files() -> MemoryFiles:
    return MemoryFiles()


@pytest_asyncio.fixture
async def engine(files: MemoryFiles, clock: ManualClock) -> Any:
    embedded = await started(files, clock)
    yield embedded
    await embedded.stop()


@pytest_asyncio.fixture
async def filled(door: Door) -> Door:
    await door.topic("orders", segment_bytes=2_000, index_interval_bytes=200)
    for number in range(60):
        await door.produce({"value": f"value {number}"})
    return door


def first_log(files: MemoryFiles) -> bytearray:
    logs = [one.data for path, one in files.contents.items() if path.endswith(f"{0:020d}.log")]
    return next(log for log in logs if b"value 0" in log)


async def verified(door: Door, body: Any) -> Any:
    """The operation, once it has ended."""
    answer = await door("POST", "/v1/storage:verify", body)
    assert answer.status == 202, answer
    operation = answer.json["operation"]
    async with asyncio.timeout(20):
        while operation["state"] == "running":
            await asyncio.sleep(0.01)
            operation = (await door("GET", f"/v1/operations/{operation['id']}")).json
    return operation


async def test_a_segment_shows_its_batches_and_what_its_indexes_say(filled: Door) -> None:
    segments = (await filled("GET", SEGMENTS)).json["items"]
    assert len(segments) > 2
    page = (await filled("GET", f"{SEGMENTS}/0?limit=5")).json
    assert page["segment"] == segments[0]
    assert [batch["base_offset"] for batch in page["batches"]] == [0, 1, 2, 3, 4]
    assert all(len(batch["crc"]) == 8 for batch in page["batches"])
    everything = list(page["batches"])
    entries = list(page["index"])
    while page["next_position"] is not None:
        page = (await filled("GET", f"{SEGMENTS}/0?limit=5&position={page['next_position']}")).json
        everything += page["batches"]
        entries += page["index"]
    assert [batch["base_offset"] for batch in everything] == list(range(segments[0]["next_offset"]))
    positions = {batch["position"]: batch["last_offset"] for batch in everything}
    assert entries
    assert all(positions[entry["position"]] == entry["offset"] for entry in entries)
    assert (await filled("GET", f"{SEGMENTS}/0?position=7")).json["bad"].startswith("batch at byte")
    assert (await filled("GET", f"{SEGMENTS}/1")).failure == (404, "UNKNOWN_TOPIC_OR_PARTITION")
    assert (await filled("GET", f"{SEGMENTS}/0?limit=0")).failure == (400, "INVALID_REQUEST")


async def test_verify_finds_damage_and_shows_where(
    filled: Door, files: MemoryFiles, caplog: pytest.LogCaptureFixture
) -> None:
    operation = await verified(filled, {})
    assert (operation["kind"], operation["state"], operation["failed"]) == ("verify", "done", 0)
    assert operation["examined"] == operation["done"] == 2
    segments = (await filled("GET", SEGMENTS)).json["items"]
    assert all(one["checked_ms"] is not None for one in segments[:-1])
    assert segments[-1]["checked_ms"] is None

    log = first_log(files)
    size = int.from_bytes(log[8:12], "big") + 12
    log[2 * size + 70] ^= 1
    operation = await verified(filled, {"topic": "orders", "partition": 0})
    assert operation["failed"] == 1
    assert operation["error"].startswith("orders-0: ")
    damages = (await filled("GET", SEGMENTS)).json["items"][0]["damages"]
    assert [(one["position"], one["first_offset"], one["last_offset"]) for one in damages] == [(2 * size, 2, 2)]
    answer = await filled("GET", "/v1/topics/orders/partitions/0/records?offset=2")
    assert answer.failure == (500, "PARTITION_DAMAGED")
    assert json.loads(answer.body)["first_offset"] == 2
    assert (await filled("GET", "/v1/topics/orders/partitions/0/records?offset=3")).status == 200
    assert (await filled("GET", "/readyz")).status == 200
    assert sum("is damaged: " in record.getMessage() for record in caplog.records) == 1
    caplog.clear()


async def test_what_is_asked_wrongly_is_refused(filled: Door) -> None:
    assert (await filled("POST", "/v1/storage:verify", {"partition": 0})).failure == (400, "INVALID_REQUEST")
    assert (await filled("POST", "/v1/storage:verify", {"topic": "none"})).failure[0] == 404
    assert (await filled("POST", "/v1/storage:verify", {"topic": "orders", "partition": 7})).failure[0] == 404


async def test_a_copy_is_kept_until_it_is_let_go(filled: Door, files: MemoryFiles) -> None:
    copy = (await filled("POST", "/v1/storage:freeze")).json
    assert Path(copy["directory"]).is_absolute()
    assert copy["files"] > 10
    assert files.listdir("frozen") == [copy["id"]]
    assert (await filled("DELETE", f"/v1/storage/frozen/{copy['id']}")).status == 204
    assert files.listdir("frozen") == []
    assert (await filled("DELETE", "/v1/storage/frozen/..%2Ftopics")).status == 204
    assert isinstance(filled.services.engine, EmbeddedEngine)
    assert files.listdir("topics")
