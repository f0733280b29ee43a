"""``logbroker demo flights``: every flight that left New York City in 2013, written over HTTP and read back.

What lives here: the job (produce, replay from offset 0, replay from a time) and its verdict. What may not: the file's form,
which is ``flight_data``.
Invariant: a carrier's flights go through one lane, and a lane has one request under way, so their order is the file's.
"""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from logbroker.cli import failures
from logbroker.cli.flight_data import Flight, Tally, flights_file, read_flights
from logbroker.cli.framework import Command, Invocation, pass_invocation
from logbroker.cli.http_client import HttpClient, path
from logbroker.cli.local_broker import local_broker
from logbroker.cli.output import Progress, note, print_item, print_rows, progress
from logbroker.errors import TopicAlreadyExists, UnknownTopicOrPartition

FLIGHTS = 336_776
PARTITIONS = 4
SINCE_MS = int(datetime(2013, 7, 1, tzinfo=UTC).timestamp() * 1000)
LANES = 4
_BATCH = 500
_JSON = {"Content-Type": "application/json"}

_encode = msgspec.json.Encoder().encode


class _RecordRead(msgspec.Struct):
    offset: int
    timestamp_ms: int
    key: str
    value_json: dict[str, Any]


class _Fetched(msgspec.Struct):
    records: list[_RecordRead]
    next_offset: int
    high_watermark: int


_decode = msgspec.json.Decoder(_Fetched).decode


@click.command(cls=Command)
@click.option("--topic", default="flights", show_default=True, help="The topic to create; it must not exist.")
@pass_invocation
def flights(invocation: Invocation, /, topic: str) -> int:
    """Write 336,776 real flights over HTTP, read them back from offset 0 and from a time, and compare with the file.

    Runs against the broker of --url, or, when none is given, against one of its own that leaves nothing behind.
    """
    file = flights_file()
    with ExitStack() as stack:
        url = invocation.given_url or stack.enter_context(local_broker())
        clients = [stack.enter_context(HttpClient(url, invocation.timeout_s)) for _ in range(max(LANES, PARTITIONS))]
        pool = stack.enter_context(ThreadPoolExecutor(len(clients)))
        create_topic(clients[0], topic)
        written, replayed, since = Tally(SINCE_MS), Tally(SINCE_MS), Tally(SINCE_MS)
        seconds: dict[str, float] = {}
        with progress(invocation, "writing", FLIGHTS) as bar, timed(seconds, "produce"):
            write(pool, clients, topic, tallied(read_flights(file), written), bar)
        with progress(invocation, "replaying", FLIGHTS) as bar, timed(seconds, "replay"):
            _replay(pool, clients, topic, {"offset": 0}, replayed, bar)
        with progress(invocation, "replaying from a time", None) as bar, timed(seconds, "replay_from_time"):
            _replay(pool, clients, topic, {"timestamp_ms": SINCE_MS}, since, bar)
    return _verdict(invocation, written, replayed, since, seconds)


def create_topic(client: HttpClient, topic: str) -> None:
    """Make the topic of a job. Raises TopicAlreadyExists."""
    try:
        client.get(path("topics", topic))
    except UnknownTopicOrPartition:
        client.request("PUT", path("topics", topic), body={"partitions": PARTITIONS, "config": {"retention_ms": -1}})
    else:
        raise TopicAlreadyExists(f"topic {topic!r} exists; the job needs a new one: name another with --topic")


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Notes how long the block took."""
    began = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - began


def tallied(found: Iterable[Flight], tally: Tally) -> Iterator[Flight]:
    """The same flights, each counted as it passes."""
    for flight in found:
        tally.add(flight)
        yield flight


# -- writing ---------------------------------------------------------------------------------------------------------


def write(pool: ThreadPoolExecutor, clients: list[HttpClient], topic: str, found: Iterable[Flight], bar: Progress) -> None:
    """Send everything in batches, one request under way per lane."""
    target = path("topics", topic, "records")
    batches: list[list[dict[str, Any]]] = [[] for _ in range(LANES)]
    under_way: list[Future[bytes] | None] = [None] * LANES
    lanes: dict[str, int] = {}

    def send(lane: int) -> None:
        earlier = under_way[lane]
        if earlier is not None:
            earlier.result()
        body = _encode({"records": batches[lane]})
        bar.advance(len(batches[lane]))
        under_way[lane] = pool.submit(clients[lane].send, "POST", target, None, body, _JSON)
        batches[lane] = []

    for flight in found:
        lane = lanes.setdefault(flight.carrier, len(lanes) % LANES)
        batches[lane].append({"key": flight.carrier, "value_json": flight.row, "timestamp_ms": flight.timestamp_ms})
        if len(batches[lane]) == _BATCH:
            send(lane)
    for lane, rest in enumerate(batches):
        if rest:
            send(lane)
    for last in under_way:
        if last is not None:
            last.result()


# -- reading back ----------------------------------------------------------------------------------------------------


def _replay(
    pool: ThreadPoolExecutor, clients: list[HttpClient], topic: str, start: dict[str, Any], tally: Tally, bar: Progress
) -> None:
    """Read every partition from ``start`` to its end, all at the same time, into ``tally``."""

    def one(partition: int) -> None:
        for records in _partition(clients[partition], topic, partition, start):
            for record in records:
                tally.add(Flight(record.key, record.timestamp_ms, record.value_json))
            bar.advance(len(records))

    for finished in [pool.submit(one, partition) for partition in range(PARTITIONS)]:
        finished.result()


def _partition(client: HttpClient, topic: str, partition: int, start: dict[str, Any]) -> Iterator[list[_RecordRead]]:
    here = path("topics", topic, "partitions", partition, "records")
    position = start
    while True:
        query = {**position, "max_records": 5_000, "max_bytes": 1 << 20}
        fetched = _decode(client.send("GET", here, query))
        yield fetched.records
        if fetched.next_offset >= fetched.high_watermark:
            return
        position = {"offset": fetched.next_offset}


# -- the verdict -----------------------------------------------------------------------------------------------------


def _verdict(invocation: Invocation, file: Tally, replayed: Tally, since: Tally, seconds: dict[str, float]) -> int:
    checks = {
        "counts_equal": replayed.counts() == file.counts(),
        "order_and_content_equal": replayed.digests() == file.digests(),
        "counts_from_time_equal": since.since() == file.since(),
    }
    carriers = [
        {
            "carrier": name,
            "in_file": count,
            "replayed": replayed.counts().get(name, 0),
            "in_file_since_july": file.since()[name],
            "replayed_since_july": since.since().get(name, 0),
        }
        for name, count in file.counts().items()
    ]
    total = sum(file.counts().values())
    summary: dict[str, Any] = {"records": total, **checks}
    for name, took in seconds.items():
        summary[f"{name}_s"] = round(took, 2)
    for name in ("produce", "replay"):
        summary[f"{name}_records_per_s"] = round(total / seconds[name])
    if invocation.output == "table":
        print_rows(invocation, carriers, tuple(carriers[0]))
        print()
    print_item(invocation, summary if invocation.output == "table" else {**summary, "carriers": carriers})
    if all(checks.values()):
        return 0
    note(invocation, "the replay is not what the file holds")
    return failures.FAILURE
