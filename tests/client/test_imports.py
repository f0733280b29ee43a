"""Importing starts nothing and takes little with it; and a user's typed code passes mypy strict."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("aiohttp", "asyncio", "click", "rich", "aiokafka", "kafka", "cel_expr_python", "prometheus_client")

SAMPLE = """
import asyncio

import msgspec

from logbroker import AsyncClient, Broker, Client, Context, DeadLetter, Record, RecordMetadata, Retry, connect, message


class Email(msgspec.Struct):
    to: str


async def use(lb: AsyncClient) -> list[RecordMetadata]:
    await lb.topics.create("orders", partitions=3, retention="7d", if_not_exists=True)
    async with lb.producer("orders", idempotent=True) as producer:
        written = [await producer.send({"id": 1}, key="c1", headers={"type": "order"})]
        later: asyncio.Future[RecordMetadata] = producer.send_nowait(b"raw")
        await producer.flush()
        written.append(later.result())
    async for record in lb.read("orders", start="earliest"):
        known: Record = record
        mail: Email = known.json(Email)
        print(mail.to, known.headers.get("type"), known.timestamp.year)
    async with lb.consumer("orders", group="billing", start="earliest") as consumer:
        async for record in consumer:
            await consumer.commit(record)
    queue = lb.queue("emails")
    await queue.send_many([message(Email("a"), delay="1m")])
    async with queue.receive(10, wait="20s") as batch:
        for one in batch:
            await one.nack(delay="1m", error=one.json(Email).to)

    @queue.worker(concurrency=8, timeout="20s")
    async def send_email(given: Email, context: Context) -> None:
        if not given.to:
            raise DeadLetter("no such user")
        raise Retry(after="30s")

    await send_email.enqueue(Email("b"), dedup_id="welcome")
    return written


async def main() -> None:
    async with Broker.open("./data") as lb:
        await use(lb)
    async with connect("http://127.0.0.1:8080") as remote:
        await use(remote)


def sync() -> str:
    with Client("http://127.0.0.1:8080") as lb:
        with lb.queue("emails").receive(5) as batch:
            for one in batch:
                one.ack()
        return lb.queue("emails").send(Email("c"), priority=1).id
"""


def imported_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys, threading\nassert threading.active_count() == 1\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=60,
    )
    return set(done.stdout.split())


def test_the_package_alone_imports_nothing_heavy() -> None:
    found = imported_by("import logbroker")
    assert not found & {*HEAVY, "msgspec", "logbroker.client"}


def test_the_client_alone_imports_no_aiohttp_and_no_event_loop() -> None:
    assert not imported_by("import logbroker.client") & set(HEAVY)
    assert not imported_by("from logbroker import Client") & {*HEAVY, "logbroker.client.aio"}


def test_the_asynchronous_client_imports_aiohttp_only_to_connect() -> None:
    found = imported_by("from logbroker import connect")
    assert not found & {*HEAVY} - {"asyncio"}


def test_a_name_that_is_not_there_is_said_so() -> None:
    import logbroker
    import logbroker.client

    for module in (logbroker, logbroker.client):
        with pytest.raises(AttributeError, match="nothing"):
            _ = module.nothing
    assert {"Broker", "Client", "connect"} <= set(dir(logbroker))


def test_a_users_typed_code_passes_mypy_strict(tmp_path: Path) -> None:
    sample = tmp_path / "sample.py"
    sample.write_text(SAMPLE)
    wrong = tmp_path / "wrong.py"
    wrong.write_text(SAMPLE.replace("known.json(Email)", "known.json(Record)"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(sample), str(wrong)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=110,
        check=False,
    )
    assert "wrong.py" in done.stdout, done.stdout + done.stderr
    assert "sample.py" not in done.stdout, done.stdout
