"""Large payloads with the Python client, over every carrier: kept in a store, named by records, fetched when wanted."""

from pathlib import Path

import pytest

from logbroker import AsyncClient, Broker, Client, connect
from logbroker.claims.reference import Claim
from logbroker.claims.stores import Store
from logbroker.errors import ClaimInvalid, ObjectAltered, ObjectNotFound, StoreNotFound

pytestmark = pytest.mark.asyncio

LARGE = bytes(range(256)) * 8_000


async def test_a_payload_is_claimed_sent_and_fetched(lb: AsyncClient) -> None:
    await lb.topics.create("events")
    claim = await lb.claim(LARGE)
    async with lb.producer("events") as producer:
        await producer.send(claim, key="k", headers={"kind": "image"})
        await producer.send("small")
    large, small = [record async for record in lb.read("events")]
    assert large.claim == claim
    assert (large.key, large.headers["kind"], len(large.value or b"") < 300) == (b"k", "image", True)
    assert await lb.payload(large) == LARGE
    assert (small.claim, await lb.payload(small)) == (None, b"small")


async def test_a_producer_claims_what_is_larger_than_it_was_told(lb: AsyncClient) -> None:
    await lb.topics.create("events")
    async with lb.producer("events", claim_above=1_000) as producer:
        await producer.send({"text": "x" * 2_000})
        await producer.send({"text": "x"})
    large, small = [record async for record in lb.read("events")]
    assert large.claim is not None
    assert small.claim is None
    assert large.headers["content-type"] == "application/json"
    assert await lb.payload(large) == b'{"text":"' + b"x" * 2_000 + b'"}'


async def test_a_message_of_a_queue_may_be_a_claim(lb: AsyncClient) -> None:
    await lb.queues.create("jobs")
    await lb.queue("jobs").send(await lb.claim(LARGE))
    async with lb.queue("jobs").receive(wait=2) as received:
        assert await lb.payload(received[0]) == LARGE


async def test_what_is_missing_altered_or_hostile_is_said(lb: AsyncClient) -> None:
    await lb.topics.create("events")
    good = await lb.claim(b"hello")
    claims = [
        Claim("nosuch", good.id, 5, good.sha256),
        Claim("local", "0" * 32, 5, good.sha256),
        Claim("local", good.id, 5, "0" * 64),
        Claim("local", good.id, 6, good.sha256),
        Claim("local", "../../etc/passwd", 5, good.sha256),
    ]
    async with lb.producer("events") as producer:
        for claim in claims:
            await producer.send(claim)
    wanted = (StoreNotFound, ObjectNotFound, ObjectAltered, ObjectAltered, ClaimInvalid)
    records = [record async for record in lb.read("events")]
    for record, error in zip(records, wanted, strict=True):
        with pytest.raises(error):
            await lb.payload(record)
    with pytest.raises(StoreNotFound):
        await lb.claim(b"x", store="nosuch")


async def test_a_store_of_the_clients_own_is_reached_without_the_broker(broker: Broker, tmp_path: Path) -> None:
    url, bucket = broker.listeners["http"], tmp_path / "bucket"
    async with connect(url, stores={"bucket": str(bucket)}) as lb:
        await lb.topics.create("events")
        claim = await lb.claim(LARGE, store="bucket")
        assert Store("bucket", str(bucket)).load(claim) == LARGE
        async with lb.producer("events") as producer:
            await producer.send(claim)
        [record] = [record async for record in lb.read("events")]
        assert await lb.payload(record) == LARGE
    async with connect(url) as other:
        with pytest.raises(StoreNotFound):
            await other.payload(record)
    assert Client(url, stores={"bucket": str(bucket)}).payload(record) == LARGE
