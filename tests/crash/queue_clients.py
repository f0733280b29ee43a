"""Workers of the kill loops of queues and subscriptions, each in a process of its own: they send, receive, settle, redrive.

What lives here: what a worker sends and sees, into its history. What may not: judgement. A worker never settles a message
twice, but for acks without an answer, which it asks again.
"""

import http.client
import random
import time
from contextlib import closing
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from tests.crash.clients import Client
from tests.crash.history import Action, Enqueue, Inventory, Outcome, Receive, Recorder, Settle

LEASE_MS = 400
_PAUSE = 0.01
_VALUES_PER_WORKER = 1_000_000_000
_SETTINGS = {
    "max_attempts": 4,
    "retry": {"policy": "exponential", "initial_ms": 20, "max_ms": 200},
    "dlq": {"max_size": 1_000_000},
}


class View(NamedTuple):
    """What the loop works on: its path, and the verb that receives."""

    path: str
    receive: str


QUEUE = View("/v1/queues/work", ":receive")
SUBSCRIPTION = View("/v1/subscriptions/audit", ":pull")
_TOPIC = "/v1/topics/work"
_LEFT_OUT = {"value": "left out", "headers": [["skip", "1"]]}
"""A record that the filter of the subscription leaves out; a worker that gets one ends with an error."""
_ENDS = ("ack", "ack", "ack", "ack", "ack", "nack", "nack", "release", "reject", "expire")


def create(port: int, view: View = QUEUE) -> None:
    """The queue, or the topic and the subscription, of the loop."""
    with closing(Client(port)) as client:
        if view == QUEUE:
            settings = {**_SETTINGS, "partitions": 2, "visibility_timeout_ms": LEASE_MS}
        else:
            client.call("PUT", _TOPIC, {"partitions": 2})
            settings = {**_SETTINGS, "topic": "work", "filter": "!has(headers.skip)", "ack_deadline_ms": LEASE_MS}
        status, answer = client.call("PUT", view.path, settings)
    assert status == 201, answer


class Worker:
    """Sends, receives and settles, with its history."""

    def __init__(self, port: int, view: View, number: int, recorder: Recorder) -> None:
        self._client = Client(port)
        self._view = view
        self._recorder = recorder
        self._chance = random.Random(number)
        self._name = f"worker-{number}"
        self._next = number * _VALUES_PER_WORKER
        self._waiting = 0

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def connect(self) -> bool:
        """Whether there is a broker."""
        return self._client.connect()

    def _do(self, action: Action, path: str, body: object) -> tuple[Outcome, Any]:
        """One call, begun in the history; its end is noted by the caller."""
        self._recorder.begin(action)
        if not self._client.connect():
            return Outcome.FAIL, None
        try:
            status, answer = self._client.call("POST", path, body)
        except (OSError, http.client.HTTPException):
            return Outcome.UNKNOWN, None
        if status == 200:
            return Outcome.OK, answer
        assert status in (207, 409, 410, 500, 503), (path, status, answer)
        return (Outcome.FAIL if status in (409, 410) else Outcome.UNKNOWN), answer

    def send(self) -> None:
        """Send some messages, some of them for later."""
        values = tuple(range(self._next, self._next + self._chance.randint(1, 5)))
        self._next += len(values)
        if self._view == QUEUE:
            messages = [
                {"value": str(value), "delay_ms": self._chance.choice((0, 0, self._chance.randint(10, 300)))}
                for value in values
            ]
            outcome, _ = self._do(Enqueue(values), f"{self._view.path}/messages", {"messages": messages})
        else:
            records = [one for value in values for one in (_LEFT_OUT, {"value": str(value)})]
            outcome, _ = self._do(Enqueue(values), f"{_TOPIC}/records", {"records": records})
        self._recorder.end(outcome, Enqueue(values))

    def receive(self) -> None:
        """Receive some messages, and give each an end."""
        body = {"max": self._chance.randint(1, 5), "wait_ms": 50, "consumer": self._name}
        outcome, answer = self._do(Receive(LEASE_MS), self._view.path + self._view.receive, body)
        messages = answer["messages"] if outcome is Outcome.OK else []
        self._recorder.end(outcome, Receive(LEASE_MS, tuple(int(one["value"]) for one in messages)))
        for message in messages:
            self._end(int(message["value"]), message["receipt"])

    def _end(self, value: int, receipt: str) -> None:
        how = self._chance.choice(_ENDS)
        if how == "expire":
            return
        entry: dict[str, object] = {"receipt": receipt}
        if how == "nack" and self._chance.random() < 0.5:
            entry["delay_ms"] = self._chance.choice((0, 100))
        body = {"receipts": [receipt]} if how in ("ack", "release") else {"entries": [entry]}
        for _ in range(3 if how == "ack" else 1):
            outcome, _answer = self._do(Settle(how, (value,)), f"{self._view.path}:{how}", body)
            self._recorder.end(outcome, Settle(how, (value,)))
            if outcome is not Outcome.UNKNOWN:
                return

    def redrive(self) -> None:
        """Send a dead letter back. What came of it shows in the deliveries and the inventory."""
        try:
            _, page = self._client.call("GET", self._view.path + "/messages?state=dead&page_size=20")
            items = page.get("items", [])
            if items:
                letter = self._chance.choice(items)
                self._client.call("POST", f"{self._view.path}/messages/{quote(letter['id'])}:redrive")
        except (OSError, http.client.HTTPException):
            return

    def turn(self) -> None:
        """One thing."""
        share = self._chance.random()
        if share < 0.25:
            self.send()
        elif share < 0.35:
            self.redrive()
        else:
            self.receive()


def work(port: int, number: int, path: Path, stop: Event, view: View = QUEUE) -> None:
    """Work until told to stop."""
    with closing(Recorder(path, f"worker-{number}")) as recorder, closing(Worker(port, view, number, recorder)) as worker:
        while not stop.is_set():
            if worker.connect():
                worker.turn()
            else:
                time.sleep(_PAUSE)


def take_inventory(port: int, path: Path, view: View = QUEUE, seconds: float = 30) -> list[int]:
    """Wait until nothing is leased or delayed any more, receive everything, and note it with the dead letters.

    Returns what was to be seen before it was received.
    """
    with closing(Client(port)) as client, closing(Recorder(path, "inventory")) as recorder:
        if view == QUEUE:
            client.call("POST", f"{view.path}:pause")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            _, told = client.call("GET", view.path)
            if not any(told["counts"][name] for name in ("in_flight", "delayed", "retrying")):
                break
            time.sleep(0.05)
        seen, dead = (_peeked(client, view, state) for state in ("ready", "dead"))
        if view == QUEUE:
            client.call("POST", f"{view.path}:resume")
        recorder.begin(Inventory())
        recorder.end(Outcome.OK, Inventory(tuple(_drained(client, view)), tuple(dead)))
    return seen


def _peeked(client: Client, view: View, state: str) -> list[int]:
    values: list[int] = []
    path = f"{view.path}/messages?state={state}&page_size=100"
    token = ""
    while True:
        status, page = client.call("GET", path + token)
        assert status == 200, page
        values += [int(one["value"]) for one in page["items"]]
        if page["next_page_token"] is None:
            return values
        token = f"&page_token={page['next_page_token']}"


def _drained(client: Client, view: View) -> list[int]:
    """Everything that can be received; each is acked at once."""
    values: list[int] = []
    while True:
        _, answer = client.call("POST", view.path + view.receive, {"max": 100, "visibility_timeout_ms": 60_000})
        if not answer["messages"]:
            return values
        values += [int(one["value"]) for one in answer["messages"]]
        receipts = [one["receipt"] for one in answer["messages"]]
        status, told = client.call("POST", f"{view.path}:ack", {"receipts": receipts})
        assert status == 200, told
