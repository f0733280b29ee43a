"""A flush that fails under a real broker: it ends with an error at once, acknowledges nothing more, and has lost nothing.

What lives here: two ways to make a flush fail, and what a client that goes on sending sees of the broker. What may not:
anything of how the broker is built. ``injected`` has strace answer one fdatasync with EIO; ``overcommitted`` is the real
thing: ext4 in a file on a tmpfs too small for it, where written data cannot reach its disk. There the write that fails also
rewrites the file system block in which the record before it ends, and leaves it unreadable although its own fdatasync had
succeeded; a plain program that appends and flushes loses that record too.
"""

import http.client
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.broker import Broker
from tests.crash.clients import Client
from tests.faults.disk_images import call, mounted

TOPIC = "flush"
_PATH = f"/v1/topics/{TOPIC}"
_POOL_BYTES = 24 << 20
_DISK_BYTES = 256 << 20


@dataclass
class Outcome:
    """What became of the broker and of what it had acknowledged."""

    exit_code: int
    seconds_to_exit: float
    """From the failed flush to the end of the process; from the first refusal where the flush itself is not seen."""
    acknowledged: int
    late: int
    """Acknowledgements of requests that were sent after the failure."""
    there: int
    """How many of the acknowledged records a restart has."""

    def stopped_in_time(self) -> bool:
        """Whether the process ended at once and acknowledged nothing more."""
        return self.exit_code != 0 and self.seconds_to_exit < 1 and not self.late

    @property
    def lost(self) -> int:
        """Acknowledged records that a restart does not have."""
        return self.acknowledged - self.there

    def summary(self) -> str:
        """In one line."""
        return (
            f"exit code {self.exit_code} {self.seconds_to_exit * 1000:.0f} ms after the failure, {self.late} acks after, "
            f"{self.there} of {self.acknowledged} acknowledged records there after a restart"
        )


@dataclass
class Sender(threading.Thread):
    """Sends one value after another until the broker is gone."""

    port: int
    size: int
    answers: list[tuple[float, int]] = field(default_factory=list)
    """For each acknowledged value: when its request was sent, and the value."""
    gone_at: float = 0.0

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        with closing(Client(self.port)) as client:
            for number in range(1_000_000):
                sent_at = time.time()
                records = [{"value": f"{number}." + "x" * self.size, "partition": 0}]
                try:
                    status, _ = client.call("POST", f"{_PATH}/records", {"records": records})
                except (OSError, http.client.HTTPException):
                    self.gone_at = time.time()
                    return
                if status == 200:
                    self.answers.append((sent_at, number))


def injected(directory: Path) -> Outcome:
    """One fdatasync of a working broker answers EIO."""
    trace = directory / "trace.txt"

    def fail(broker: Broker) -> float:
        command = ["strace", "-f", "-ttt", "-o", str(trace), "-e", "trace=fdatasync"]
        command += ["-e", "inject=fdatasync:error=EIO:when=20", "-p", str(broker.pid)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as tracing:
            assert broker.dies_within(30), "the broker goes on after a failed flush"
            tracing.wait(10)
        [failed] = [line for line in trace.read_text().splitlines() if "INJECTED" in line]
        return float(failed.split()[1])

    return _run(Broker(directory), fail, 10)


def overcommitted(directory: Path) -> Outcome:
    """The disk under the file system is full, which nobody told the file system."""
    pool, image, mount = directory / "pool", directory / "pool" / "disk.img", directory / "disk"
    pool.mkdir()
    call("mount", "-t", "tmpfs", "-o", f"size={_POOL_BYTES}", "tmpfs", pool)
    try:
        with image.open("wb") as file:
            file.truncate(_DISK_BYTES)
        call("mkfs.ext4", "-q", image)
        with mounted(image, mount):
            broker = Broker(directory, data=mount / "data")
            acknowledged = _until_it_fails(broker, _wait_for_the_end, 4_000)
        kept = directory / "kept.img"
        shutil.copy(image, kept)
    finally:
        call("umount", pool)
    with mounted(kept, mount):
        return _restarted(Broker(directory, data=mount / "data"), *acknowledged)


def _wait_for_the_end(broker: Broker) -> float:
    assert broker.dies_within(60), "the broker goes on"
    return 0.0


def _run(broker: Broker, fail: Callable[[Broker], float], size: int) -> Outcome:
    return _restarted(broker, *_until_it_fails(broker, fail, size))


def _until_it_fails(broker: Broker, fail: Callable[[Broker], float], size: int) -> tuple[Sender, int, float, float]:
    broker.start()
    broker.wait_until_ready()
    with closing(Client(broker.port)) as client:
        assert client.call("PUT", _PATH, {"partitions": 1})[0] == 201
    sender = Sender(broker.port, size)
    sender.start()
    time.sleep(0.5)
    failed_at = fail(broker)
    ended_at = time.time()
    sender.join(30)
    return sender, broker.exit_code, failed_at, ended_at


def _restarted(broker: Broker, sender: Sender, exit_code: int, failed_at: float, ended_at: float) -> Outcome:
    last = max(sent for sent, _ in sender.answers)
    late = sum(sent > failed_at for sent, _ in sender.answers) if failed_at else 0
    broker.start()
    broker.wait_until_ready()
    try:
        there = _values(broker.port)
    finally:
        broker.stop()
    kept = sum(number in there for _, number in sender.answers)
    return Outcome(exit_code, ended_at - (failed_at or last), len(sender.answers), late, kept)


def _values(port: int) -> set[int]:
    found: set[int] = set()
    with closing(Client(port)) as client:
        _, facts = client.call("GET", f"{_PATH}/partitions/0")
        offset = 0
        while offset < facts["high_watermark"]:
            path = f"{_PATH}/partitions/0/records?offset={offset}&max_records=500&encoding=text"
            status, page = client.call("GET", path)
            assert status == 200, page
            found |= {int(record["value"].partition(".")[0]) for record in page["records"]}
            offset = page["next_offset"]
    return found
