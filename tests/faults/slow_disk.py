"""A disk whose every flush takes 200 ms, under a real broker with many producers and one consumer of a queue.

What lives here: slowing the flushes down (strace), the load, and what clients and the system see. What may not: anything of
how the broker is built. The bandwidth of the disk is not limited here.
"""

import subprocess
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.crash.broker import Broker
from tests.crash.clients import Client
from tests.faults.slow_peers import resident

DELAY_MS = 200
_PRODUCERS = 16
_VALUE = "x" * 20_000
_LEASE_MS = 5_000


@dataclass
class Outcome:
    """What was seen; times of answered produces in seconds, ascending."""

    times: list[float]
    grown_bytes: int
    received: int
    refused_acks: int
    """Acks that came in time by the client's clock and were refused: a lease that ran out by the broker's own stall."""

    @property
    def slowest_of_99(self) -> float:
        """The 99th percentile."""
        return self.times[len(self.times) * 99 // 100]

    def summary(self) -> str:
        """In one line."""
        return (
            f"{len(self.times)} produces, p50 {self.times[len(self.times) // 2] * 1000:.0f} ms, p99 "
            f"{self.slowest_of_99 * 1000:.0f} ms at {DELAY_MS} ms a flush; memory grew by "
            f"{self.grown_bytes / (1 << 20):.0f} MiB; {self.received} receives acked, {self.refused_acks} acks refused"
        )


def run(directory: Path, seconds: float = 10.0) -> Outcome:
    """Produce, receive and ack for a while on a slow disk."""
    broker = Broker(directory)
    broker.start()
    try:
        broker.wait_until_ready()
        with closing(Client(broker.port)) as client:
            client.call("PUT", "/v1/queues/jobs", {"visibility_timeout_ms": _LEASE_MS})
            client.call("POST", "/v1/topics/jobs/records", {"records": [{"value": _VALUE}]})
        at_rest = resident(broker.pid)
        slowing = ["strace", "-f", "-o", "/dev/null", "-e", "trace=fdatasync"]
        slowing += ["-e", f"inject=fdatasync:delay_enter={DELAY_MS * 1000}", "-p", str(broker.pid)]
        with subprocess.Popen(slowing, stderr=subprocess.DEVNULL) as tracing:
            try:
                _wait_until_slow(broker.port)
                times, received, refused = _load(broker.port, seconds)
                grown = resident(broker.pid) - at_rest
            finally:
                tracing.terminate()
        return Outcome(sorted(times), grown, received, refused)
    finally:
        broker.stop()


def _wait_until_slow(port: int) -> None:
    """Return once a flush was slow: the tracer takes a moment to get hold of every thread."""
    end = time.monotonic() + 20
    slow = 0
    with closing(Client(port)) as client:
        while slow < 4:
            assert time.monotonic() < end, "the flushes never became slow"
            began = time.monotonic()
            client.call("POST", "/v1/topics/jobs/records", {"records": [{"value": "warm-up"}]})
            slow = slow + 1 if time.monotonic() - began > DELAY_MS / 1000 else 0


def _load(port: int, seconds: float) -> tuple[list[float], int, int]:
    end = time.monotonic() + seconds
    times: list[float] = []
    acks: list[int] = []

    def produce() -> None:
        with closing(Client(port)) as client:
            while time.monotonic() < end:
                began = time.monotonic()
                assert client.call("POST", "/v1/topics/jobs/records", {"records": [{"value": _VALUE}]})[0] == 200
                times.append(time.monotonic() - began)

    def consume() -> None:
        with closing(Client(port)) as client:
            while time.monotonic() < end:
                status, taken = client.call("POST", "/v1/queues/jobs:receive", {"max": 50, "wait_ms": 500})
                assert status == 200
                receipts = [one["receipt"] for one in taken["messages"]]
                if receipts:
                    acks.append(client.call("POST", "/v1/queues/jobs:ack", {"receipts": receipts})[0])

    threads = [threading.Thread(target=work) for work in (*[produce] * _PRODUCERS, consume)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, acks.count(200), len(acks) - acks.count(200)
