"""Consumers that are killed while they hold messages: all of them come back in time, each once."""

import multiprocessing
import time
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from tests.crash.broker import Broker
from tests.crash.clients import Client
from tests.crash.history import Enqueue, Inventory, Operation, Outcome, Receive, Recorder, Settle, read_history
from tests.crash.jobs import check_jobs

HOLDERS = 8
EACH = 10
LEASE_MS = 2_000
LATEST_MS = 10_000
"""On a quiet machine they are back within a second; a suite that shares it can only tell late from never."""
QUEUE_PATH = "/v1/queues/held"


def hold(port: int, number: int, path: Path, all_hold: Barrier) -> None:
    """Lease messages, tell, and do nothing more until killed."""
    with closing(Client(port)) as client, closing(Recorder(path, f"holder-{number}")) as recorder:
        receive(client, recorder, {"max": EACH, "wait_ms": 5_000})
        all_hold.wait()
        time.sleep(3_600)


def receive(client: Client, recorder: Recorder, body: dict[str, int]) -> dict[int, str]:
    """The receipts of what there was by value, noted in the history."""
    recorder.begin(Receive(LEASE_MS))
    status, answer = client.call("POST", QUEUE_PATH + ":receive", body)
    assert status == 200, answer
    receipts = {int(one["value"]): one["receipt"] for one in answer["messages"]}
    recorder.end(Outcome.OK, Receive(LEASE_MS, tuple(receipts)))
    return receipts


def hold_and_die(port: int, directory: Path) -> None:
    """Let consumers lease everything, and kill them all."""
    spawn = multiprocessing.get_context("spawn")
    all_hold = spawn.Barrier(HOLDERS + 1)
    holders = [
        spawn.Process(target=hold, args=(port, number, directory / f"holder-{number}.history", all_hold), daemon=True)
        for number in range(HOLDERS)
    ]
    for holder in holders:
        holder.start()
    all_hold.wait(30)
    for holder in holders:
        holder.kill()
        holder.join()


def collect(client: Client, recorder: Recorder) -> None:
    """Receive and ack until nothing has come for longer than a lease; then the queue is empty."""
    while receipts := receive(client, recorder, {"max": 100, "wait_ms": LEASE_MS + 5_000}):
        done = Settle("ack", tuple(receipts))
        recorder.begin(done)
        status, answer = client.call("POST", QUEUE_PATH + ":ack", {"receipts": list(receipts.values())})
        assert status == 200, answer
        recorder.end(Outcome.OK, done)
    _, told = client.call("GET", QUEUE_PATH)
    assert not any(told["counts"].values()), told
    recorder.begin(Inventory())
    recorder.end(Outcome.OK, Inventory())


def deliveries(history: list[Operation], value: int) -> list[Operation]:
    """Where a message was delivered, in order."""
    return [one for one in history if isinstance(one.action, Receive) and value in one.action.values]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_what_killed_consumers_held_comes_back_in_time_and_once(tmp_path: Path) -> None:
    values = tuple(range(HOLDERS * EACH))
    broker = Broker(tmp_path)
    broker.start()
    try:
        broker.wait_until_ready()
        with (
            closing(Client(broker.port)) as client,
            closing(Recorder(tmp_path / "collector.history", "collector")) as recorder,
        ):
            client.call("PUT", QUEUE_PATH, {"visibility_timeout_ms": LEASE_MS, "partitions": 2})
            recorder.begin(Enqueue(values))
            client.call("POST", QUEUE_PATH + "/messages", {"messages": [{"value": str(value)} for value in values]})
            recorder.end(Outcome.OK, Enqueue(values))
            hold_and_die(broker.port, tmp_path)
            collect(client, recorder)
    finally:
        broker.stop()
    history = read_history(tmp_path.glob("*.history"))
    assert check_jobs(history) == {}
    for value in values:
        held, again = deliveries(history, value)
        assert held.process.startswith("holder"), held
        late_ms = (again.completed_ns - held.completed_ns) / 1e6 - LEASE_MS
        assert late_ms <= LATEST_MS, f"message {value} came back {late_ms} ms after its lease"
