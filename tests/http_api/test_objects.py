"""The claim check over HTTP: payloads brought, named by records, fetched, and collected with them."""

import asyncio
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from logbroker.broker.claim_collection import UNREFERRED_MS
from logbroker.broker.services import Services, services_on
from logbroker.clock import ManualClock
from logbroker.config import BrokerConfig
from logbroker.engine.api import Engine
from logbroker.errors import PartitionDamaged
from logbroker.model import TopicPartition
from tests.http_api.conftest import CONFIG, Door

pytestmark = pytest.mark.asyncio

OCTETS = {"Content-Type": "application/octet-stream"}
CLAIMED = {**OCTETS, "Logbroker-Claim-Store": "local"}
MIB = 1 << 20


@pytest.fixture
def clock() -> ManualClock:
    clock = ManualClock()
    clock.advance(100 * UNREFERRED_MS)
    return clock


@pytest.fixture
def services(engine: Engine, clock: ManualClock, tmp_path: Path) -> Services:
    changed = {"data_dir": str(tmp_path), "claim_max_bytes": 4 * MIB}
    given = {name: getattr(CONFIG, name) for name in ("max_request_bytes", "max_partitions", "drain_ms")}
    return services_on(engine, clock, BrokerConfig(**{**given, **changed}), "cluster")


@pytest_asyncio.fixture
async def topic(door: Door) -> str:
    await door.topic("orders")
    return "orders"


async def claimed(door: Door, data: bytes, topic: str = "orders") -> Any:
    """Produce a record that stands for ``data``. The reference."""
    answer = await door("POST", f"/v1/topics/{topic}/records", data=io.BytesIO(data), headers=CLAIMED)
    assert answer.status == 200, answer
    where = answer.json
    record = await door("GET", f"/v1/topics/{topic}/partitions/{where['partition']}/records/{where['offset']}")
    assert ["logbroker-claim", "1"] in record.json["headers"]
    return json.loads(record.json["value"])


async def there(door: Door, claim: Any) -> bool:
    answer = await door("GET", f"/v1/stores/{claim['store']}/objects/{claim['id']}")
    return answer.status == 200


async def collect(door: Door) -> int:
    return await door.services.claim_collector.collect()


def age(tmp_path: Path, clock: ManualClock) -> None:
    """Files get the broker's time: a manual clock and a real disk know nothing of each other."""
    for file in (tmp_path / "objects").rglob("*"):
        if file.is_file():
            os.utime(file, (clock.now().wall_ms / 1_000,) * 2)


# -- there and back --------------------------------------------------------------------------------------------------


async def test_a_payload_is_brought_and_fetched(door: Door) -> None:
    data = bytes(range(256)) * 10_000
    answer = await door("POST", "/v1/stores/local/objects", data=io.BytesIO(data), headers=OCTETS)
    assert answer.status == 201
    claim = answer.json
    assert (claim["size"], claim["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    fetched = await door("GET", f"/v1/stores/local/objects/{claim['id']}")
    assert (fetched.body, fetched.headers["Content-Length"]) == (data, str(len(data)))
    assert "sandbox" in fetched.headers["Content-Security-Policy"]


async def test_a_body_larger_than_any_record_becomes_a_record_that_stands_for_it(door: Door, topic: str) -> None:
    data = b"x" * (3 * MIB)  # more than max_request_bytes and max_message_bytes
    claim = await claimed(door, data)
    assert claim.keys() == {"store", "id", "size", "sha256"}
    assert (await door("GET", f"/v1/stores/local/objects/{claim['id']}")).body == data


async def test_a_queue_message_may_stand_for_a_payload_too(door: Door) -> None:
    await door("PUT", "/v1/queues/jobs", {})
    headers = {**CLAIMED, "Logbroker-Key": "k"}
    assert (await door("POST", "/v1/queues/jobs/messages", b"large", headers=headers)).status == 200
    [message] = (await door("POST", "/v1/queues/jobs:receive", {})).json["messages"]
    claim = json.loads(message["value"])
    assert (message["key"], claim["size"]) == ("k", 5)
    await door.services.queues.stop()


@pytest.mark.parametrize(
    ("method", "path", "headers", "failure"),
    [
        ("POST", "/v1/stores/nosuch/objects", OCTETS, (404, "STORE_NOT_FOUND")),
        ("POST", "/v1/stores/No%20Such/objects", OCTETS, (400, "CLAIM_INVALID")),
        ("GET", "/v1/stores/local/objects/..%2f..%2fetc%2fpasswd", {}, (400, "CLAIM_INVALID")),
        ("GET", "/v1/stores/local/objects/passwd", {}, (400, "CLAIM_INVALID")),
        ("GET", f"/v1/stores/local/objects/{'a' * 32}", {}, (404, "OBJECT_NOT_FOUND")),
        ("POST", "/v1/topics/orders/records", {**OCTETS, "Logbroker-Claim-Store": "nosuch"}, (404, "STORE_NOT_FOUND")),
    ],
)
async def test_what_is_not_there_or_hostile_is_refused_by_name(
    door: Door, topic: str, method: str, path: str, headers: dict[str, str], failure: tuple[int, str]
) -> None:
    assert (await door(method, path, b"x" if method == "POST" else None, headers=headers)).failure == failure


async def test_a_payload_above_the_bound_is_refused_and_leaves_nothing(door: Door, tmp_path: Path) -> None:
    data = b"x" * (4 * MIB + 1)
    answer = await door("POST", "/v1/stores/local/objects", data=io.BytesIO(data), headers=OCTETS)
    assert answer.failure == (413, "MESSAGE_TOO_LARGE")

    async def chunks() -> Any:
        for at in range(0, len(data), MIB):
            yield data[at : at + MIB]

    async with door.session.post(f"{door.url}/v1/stores/local/objects", data=chunks(), headers=OCTETS) as streamed:
        assert streamed.status == 413
    assert [file for file in (tmp_path / "objects").rglob("*") if file.is_file()] == []


# -- collection ------------------------------------------------------------------------------------------------------


async def test_a_payload_lives_as_long_as_its_record(door: Door, clock: ManualClock, topic: str, tmp_path: Path) -> None:
    first, second = await claimed(door, b"1"), await claimed(door, b"2")
    age(tmp_path, clock)
    clock.advance(10 * UNREFERRED_MS)
    assert await collect(door) == 0
    where = TopicPartition("orders", 0)
    after_first = next(
        record.offset
        for record in (await door.services.engine.read(where, 0, max_bytes=MIB)).records
        if second["id"].encode() in (record.value or b"")
    )
    await door.services.engine.trim(where, after_first)
    assert await collect(door) == 1
    assert (await there(door, first), await there(door, second)) == (False, True)
    await door("DELETE", "/v1/topics/orders")
    assert await collect(door) == 1
    assert not await there(door, second)


async def test_a_copy_of_the_record_elsewhere_keeps_its_payload(door: Door, clock: ManualClock, tmp_path: Path) -> None:
    await door.topic("one")
    await door.topic("two", compression_type="gzip")
    claim = await claimed(door, b"x", "one")
    copy = {"records": [{"value": json.dumps(claim), "headers": [["logbroker-claim", "1"]]}]}
    assert (await door("POST", "/v1/topics/two/records", copy)).status == 200
    assert await collect(door) == 0
    await door("DELETE", "/v1/topics/one")
    age(tmp_path, clock)
    clock.advance(10 * UNREFERRED_MS)
    assert await collect(door) == 0
    assert await there(door, claim)


async def test_an_upload_without_a_record_goes_after_a_day(
    door: Door, clock: ManualClock, topic: str, tmp_path: Path
) -> None:
    claim = (await door("POST", "/v1/stores/local/objects", b"x", headers=OCTETS)).json
    age(tmp_path, clock)
    clock.advance(UNREFERRED_MS - 1)
    assert await collect(door) == 0
    clock.advance(1)
    assert await collect(door) == 1
    assert not await there(door, claim)


async def test_what_cannot_be_read_keeps_everything(
    door: Door, clock: ManualClock, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await door("POST", "/v1/stores/local/objects", b"x", headers=OCTETS)
    age(tmp_path, clock)
    clock.advance(10 * UNREFERRED_MS)

    async def damaged(where: TopicPartition) -> Any:
        raise PartitionDamaged

    with monkeypatch.context() as patched:
        patched.setattr(door.services.engine, "bounds", damaged)
        assert await collect(door) == 0
    assert await collect(door) == 1


async def test_uploads_at_the_same_time_do_not_disturb_each_other(door: Door, topic: str) -> None:
    payloads = [bytes([number]) * (MIB // 2) for number in range(8)]
    claims = await asyncio.gather(*(claimed(door, data) for data in payloads))
    for data, claim in zip(payloads, claims, strict=True):
        assert (await door("GET", f"/v1/stores/local/objects/{claim['id']}")).body == data
