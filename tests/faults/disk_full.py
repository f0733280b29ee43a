"""A disk that somebody else fills, again and again, at any moment, under a real broker; and what clients see of it.

What lives here: a small file system, the one who fills it, and what is asked of the broker at each point. What may not:
anything of how the broker is built.
"""

import errno
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.crash.broker import Broker
from tests.crash.clients import Client
from tests.faults.disk_images import call

DISK_BYTES = 64 << 20
RESERVE = 4 << 20
_RECORDS = "/v1/topics/jobs/records"
_CHUNK = 1 << 20
_WITHIN_S = 5.0
_PAUSE_S = 0.008
"""After each acknowledged record, so that the records themselves do not fill the disk."""
_SETTINGS = {"LOGBROKER_DISK_RESERVE_BYTES": str(RESERVE), "LOGBROKER_LOG_LEVEL": "error"}


@dataclass
class Outcome:
    """What was seen. ``wrong`` are sentences, each of which is a failure."""

    points: int = 0
    refused: int = 0
    given_up: int = 0
    """Points at which even the reserve was needed."""
    acknowledged: int = 0
    there: int = 0
    slowest_return_s: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """In one line."""
        return (
            f"{self.points} points, {self.refused} produces refused with 507, reserve needed at {self.given_up}, back "
            f"to writing within {self.slowest_return_s:.1f} s, {self.there} of {self.acknowledged} acknowledged records "
            f"there, {len(self.wrong)} wrong answers"
        )


@contextmanager
def small_disk(directory: Path, kind: str) -> Iterator[Path]:
    """A file system of ``DISK_BYTES``: ``tmpfs``, or ``ext4`` in a file. Raises OSError where it cannot be mounted."""
    where = directory / "disk"
    where.mkdir()
    if kind == "tmpfs":
        call("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", where)
    else:
        image = directory / "disk.img"
        with image.open("wb") as file:
            file.truncate(DISK_BYTES)
        call("mkfs.ext4", "-q", "-m", "0", image)
        call("mount", "-o", "loop", image, where)
    try:
        yield where
    finally:
        call("umount", where)


def _fill(path: Path, leave: int) -> None:
    """Take all of the disk but about ``leave`` bytes."""
    with path.open("wb", buffering=0) as file:
        while True:
            found = os.statvfs(path.parent)
            size = min(_CHUNK, found.f_bavail * found.f_frsize - leave)
            if size <= 0:
                return
            try:
                file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                return


class _Sender(threading.Thread):
    """Sends numbers, and notes which were acknowledged and which refused with what."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.acknowledged: list[int] = []
        self.refused = 0
        self.wrong: list[str] = []
        self.over = threading.Event()
        self._port = port

    def run(self) -> None:
        number = 0
        with closing(Client(self._port)) as client:
            while not self.over.is_set():
                record = {"records": [{"value": f"{number:09d}" + "x" * (number * 37 % 3000)}]}
                status, body = client.call("POST", _RECORDS, record)
                if status == 200:
                    self.acknowledged.append(number)
                    time.sleep(_PAUSE_S)
                elif status == 507:
                    self.refused += 1
                    time.sleep(0.01)
                else:
                    self.wrong.append(f"produce was answered {status} {body}")
                number += 1


def run(directory: Path, kind: str, points: int, seed: int) -> Outcome:
    """Fill the disk at ``points`` moments, and free it again each time."""
    random = Random(seed)
    outcome = Outcome()
    with small_disk(directory, kind) as disk:
        broker = Broker(directory, data=disk / "data")
        broker.start(_SETTINGS)
        try:
            broker.wait_until_ready()
            with closing(Client(broker.port)) as client:
                client.call("PUT", "/v1/queues/jobs", {"visibility_timeout_ms": 600_000})
                client.call("PATCH", "/v1/topics/jobs", {"config": {"segment_bytes": 1 << 20}})
                sender = _Sender(broker.port)
                sender.start()
                try:
                    for _ in range(points):
                        _point(client, disk, random, outcome)
                finally:
                    sender.over.set()
                    sender.join()
            broker.kill()
            (disk / "filler").unlink(missing_ok=True)
            broker.start(_SETTINGS)
            broker.wait_until_ready()
            outcome.refused, outcome.acknowledged = sender.refused, len(sender.acknowledged)
            outcome.wrong += sender.wrong
            outcome.there = len(_survivors(broker.port) & set(sender.acknowledged))
        finally:
            broker.stop()
    return outcome


def _point(client: Client, disk: Path, random: Random, outcome: Outcome) -> None:
    """Fill the disk, ask for everything, and free it."""
    outcome.points += 1
    time.sleep(random.random() * 0.2)
    filler = disk / "filler"
    _fill(filler, 0 if random.random() < 0.5 else random.randrange(RESERVE))
    time.sleep(random.random() * 0.3)
    _ask(client, outcome)
    outcome.given_up += not (disk / "data" / "reserve").exists()
    filler.unlink()
    freed = time.monotonic()
    while client.call("POST", _RECORDS, {"records": [{"value": "again"}]})[0] != 200:
        if time.monotonic() - freed > _WITHIN_S:
            outcome.wrong.append(f"writing did not begin again within {_WITHIN_S:g} s")
            break
        time.sleep(0.01)
    outcome.slowest_return_s = max(outcome.slowest_return_s, time.monotonic() - freed)


def _ask(client: Client, outcome: Outcome) -> None:
    """What has to go on while the disk is full: a read, a commit, and messages that are done."""
    status, page = client.call("GET", "/v1/topics/jobs/partitions/0/records?last=5")
    if status != 200:
        outcome.wrong.append(f"a fetch was answered {status} {page}")
    commit = {"offsets": [{"topic": "jobs", "partition": 0, "offset": outcome.points}]}
    status, answer = client.call("PUT", "/v1/groups/readers/offsets", commit)
    if status != 200:
        outcome.wrong.append(f"a commit was answered {status} {answer}")
    status, taken = client.call("POST", "/v1/queues/jobs:receive", {"max": 20})
    if status != 200:
        outcome.wrong.append(f"a receive was answered {status} {taken}")
        return
    receipts = [one["receipt"] for one in taken["messages"]]
    status, answer = client.call("POST", "/v1/queues/jobs:ack", {"receipts": receipts})
    if receipts and status != 200:
        outcome.wrong.append(f"an ack was answered {status} {answer}")


def _survivors(port: int) -> set[int]:
    """The numbers that are in the topic."""
    found: set[int] = set()
    with closing(Client(port)) as client:
        offset, end = 0, client.call("GET", "/v1/topics/jobs/partitions/0")[1]["high_watermark"]
        while offset < end:
            status, page = client.call("GET", f"/v1/topics/jobs/partitions/0/records?offset={offset}")
            assert status == 200, json.dumps(page)
            found |= {int(one["value"][:9]) for one in page["records"] if one["value"] != "again"}
            offset = page["next_offset"]
    return found
