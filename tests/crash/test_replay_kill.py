"""A replay into a queue, cancelled, killed with the broker, gone on with: each record is in the queue exactly once.

LOGBROKER_REPLAY_RECORDS sets how many records, LOGBROKER_REPLAY_KILLS how often the broker is killed.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.crash.broker import Broker
from tests.crash.clients import Client

RECORDS = int(os.environ.get("LOGBROKER_REPLAY_RECORDS") or 4_000)
KILLS = int(os.environ.get("LOGBROKER_REPLAY_KILLS") or 3)
PARTITIONS = 3
BATCH = 1_000
SECONDS = 2 + 1.5 * KILLS
"""How long the replay would take undisturbed."""


def ask(client: Client, method: str, path: str, body: Any = None) -> Any:
    status, answer = client.call(method, path, body)
    assert status < 300, answer
    return answer


def fill(client: Client) -> None:
    ask(client, "PUT", "/v1/topics/flights", {"partitions": PARTITIONS})
    ask(client, "PUT", "/v1/queues/again", {"partitions": 2})
    for begin in range(0, RECORDS, BATCH):
        records = [{"value": str(n), "key": str(n % 97)} for n in range(begin, min(RECORDS, begin + BATCH))]
        ask(client, "POST", "/v1/topics/flights/records", {"records": records})


def until(client: Client, operation: str, holds: Callable[[Any], bool]) -> Any:
    deadline = time.monotonic() + 120
    while not holds(told := ask(client, "GET", f"/v1/operations/{operation}")):
        assert time.monotonic() < deadline, told
        time.sleep(0.02)
    return told


def received(client: Client) -> Counter[int]:
    """Everything in the queue, acknowledged as it comes."""
    found: Counter[int] = Counter()
    while messages := ask(client, "POST", "/v1/queues/again:receive", {"max": 1_000, "wait_ms": 500})["messages"]:
        found.update(int(one["value"]) for one in messages)
        ask(client, "POST", "/v1/queues/again:ack", {"receipts": [one["receipt"] for one in messages]})
    return found


@pytest.mark.slow
@pytest.mark.timeout(300 + RECORDS // 100)
def test_a_replay_survives_cancels_and_kills_with_each_record_once(tmp_path: Path) -> None:
    chance = random.Random(random.SystemRandom().randrange(1 << 32))
    broker = Broker(tmp_path)
    broker.start()
    try:
        broker.wait_until_ready()
        with closing(Client(broker.port)) as client:
            fill(client)
            body = {"into": {"queue": "again"}, "rate": RECORDS / SECONDS}
            job = ask(client, "POST", "/v1/topics/flights:replay", body)["operation"]["id"]
            until(client, job, lambda told: told["done"] > RECORDS / 10)
            assert ask(client, "POST", f"/v1/operations/{job}:cancel")["state"] == "cancelled"
            assert ask(client, "POST", f"/v1/operations/{job}:resume")["state"] == "running"
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.1, 1.2))
            broker.kill()
            broker.start()
            broker.wait_until_ready()
        with closing(Client(broker.port)) as client:
            done = until(client, job, lambda told: told["state"] != "running")
            assert (done["state"], done["done"], done["failed"]) == ("done", RECORDS, 0)
            assert received(client) == Counter(range(RECORDS))
    finally:
        broker.stop()
