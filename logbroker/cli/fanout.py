"""``logbroker demo fanout``: real flights in one topic, ten subscriptions with ten filters, and one sent back in time.

What lives here: the job and its verdict. What may not: the file's form (``flight_data``), writing (``flights``).
Invariant: what each subscription should get is judged here in Python, row by row of the file, not by the filter.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from typing import Any, NamedTuple

import click
import msgspec

from logbroker.cli import failures
from logbroker.cli.flight_data import Flight, Tally, flights_file, read_flights
from logbroker.cli.flights import LANES, create_topic, tallied, timed, write
from logbroker.cli.framework import Command, Invocation, pass_invocation
from logbroker.cli.http_client import HttpClient, path
from logbroker.cli.local_broker import local_broker
from logbroker.cli.output import note, print_item, print_rows, progress
from logbroker.filters import compile_filter
from logbroker.model import StoredRecord, TopicPartition

_PULL = 500
_SAMPLE = 5_000
_JSON = {"Content-Type": "application/json"}

Judge = Callable[[Flight], bool]


class _Subscriber(NamedTuple):
    """A filter, and the same in Python."""

    filter: str | None
    wants: Judge


def _has(name: str, test: Callable[[Any], bool]) -> Judge:
    """Whether a field is there and passes a test."""
    return lambda flight: flight.row[name] is not None and test(flight.row[name])


_SUBSCRIBERS: dict[str, _Subscriber] = {
    "united": _Subscriber('key == "UA"', lambda flight: flight.carrier == "UA"),
    "jfk": _Subscriber('value.origin == "JFK"', _has("origin", lambda origin: origin == "JFK")),
    "very-late": _Subscriber("value.dep_delay > 120", _has("dep_delay", lambda delay: delay > 120)),
    "cancelled": _Subscriber("value.dep_time == null", lambda flight: flight.row["dep_time"] is None),
    "california": _Subscriber('value.dest in ["LAX", "SFO"]', _has("dest", lambda dest: dest in ("LAX", "SFO"))),
    "far": _Subscriber("value.distance > 2000", _has("distance", lambda distance: distance > 2000)),
    "early-birds": _Subscriber("value.hour < 6", _has("hour", lambda hour: hour < 6)),
    "made-up": _Subscriber(
        "value.dep_delay > 30 && value.arr_delay <= 0",
        lambda flight: _has("dep_delay", lambda delay: delay > 30)(flight) and _has("arr_delay", lambda d: d <= 0)(flight),
    ),
    "jets": _Subscriber('value.tailnum.startsWith("N1")', _has("tailnum", lambda tail: tail.startswith("N1"))),
    "nothing": _Subscriber('value.dest == "XXX"', lambda flight: False),
}


class _Message(msgspec.Struct):
    receipt: str
    timestamp_ms: int
    key: str
    value_json: dict[str, Any]


class _Pulled(msgspec.Struct):
    messages: list[_Message]


_decode = msgspec.json.Decoder(_Pulled).decode


@click.command(cls=Command)
@click.option("--topic", default="flights", show_default=True, help="The topic to create; it must not exist.")
@click.option("--flights", "count", type=click.IntRange(10, 336_776), default=100_000, show_default=True, help="How many.")
@pass_invocation
def fanout(invocation: Invocation, /, topic: str, count: int) -> int:
    """Write real flights to one topic, read them by ten subscriptions with a filter each, and send one back in time.

    Runs against the broker of --url, or, when none is given, against one of its own that leaves nothing behind.
    """
    seconds: dict[str, float] = {}
    flights = list(islice(read_flights(flights_file()), count))
    since_ms = flights[len(flights) // 2].timestamp_ms
    with ExitStack() as stack:
        url = invocation.given_url or stack.enter_context(local_broker())
        clients = [stack.enter_context(HttpClient(url, invocation.timeout_s)) for _ in range(max(LANES, len(_SUBSCRIBERS)))]
        pool = stack.enter_context(ThreadPoolExecutor(len(clients)))
        create_topic(clients[0], topic)
        for name, subscriber in _SUBSCRIBERS.items():
            body = {"topic": topic, "filter": subscriber.filter}
            clients[0].request("PUT", path("subscriptions", f"{topic}-{name}"), body=body)
        with progress(invocation, "writing", count) as bar, timed(seconds, "write"):
            write(pool, clients, topic, tallied(flights, Tally(since_ms)), bar)
        with timed(seconds, "read"):
            work = [
                pool.submit(_drain, client, f"{topic}-{name}", since_ms)
                for client, name in zip(clients, _SUBSCRIBERS, strict=False)
            ]
            got = {name: one.result() for name, one in zip(_SUBSCRIBERS, work, strict=True)}
        with timed(seconds, "read_again"):
            back = _sent_back(clients[0], f"{topic}-united", since_ms)
    return _verdict(invocation, flights, since_ms, got, back, seconds)


def _drain(client: HttpClient, name: str, since_ms: int) -> Tally:
    """Pull and acknowledge until nothing is left."""
    tally = Tally(since_ms)
    while True:
        body = {"max": _PULL, "consumer": "demo"}
        pulled = _decode(client.send("POST", path("subscriptions", f"{name}:pull"), None, msgspec.json.encode(body), _JSON))
        if not pulled.messages:
            if not client.get(path("subscriptions", name))["unread"]:
                return tally
            continue  # it reads on past what its filter leaves out
        for message in pulled.messages:
            tally.add(Flight(message.key, message.timestamp_ms, message.value_json))
        receipts = [message.receipt for message in pulled.messages]
        client.request("POST", path("subscriptions", f"{name}:ack"), body={"receipts": receipts})


def _sent_back(client: HttpClient, name: str, since_ms: int) -> Tally:
    """Seek to a time and read again."""
    client.request("POST", path("subscriptions", f"{name}:seek"), body={"to": {"timestamp_ms": since_ms}, "dry_run": False})
    return _drain(client, name, since_ms)


# -- the verdict -------------------------------------------------------------------------------------------------------


def _verdict(
    invocation: Invocation,
    flights: list[Flight],
    since_ms: int,
    got: dict[str, Tally],
    back: Tally,
    seconds: dict[str, float],
) -> int:
    rows: list[dict[str, Any]] = []
    for name, subscriber in _SUBSCRIBERS.items():
        wanted = _counted(filter(subscriber.wants, flights), since_ms)
        equal = got[name].digests() == wanted.digests()
        received, expected = (sum(tally.counts().values()) for tally in (got[name], wanted))
        cost = _cost_us(subscriber.filter, flights)
        rows.append(
            {
                "subscription": name,
                "filter": subscriber.filter,
                "expected": expected,
                "received": received,
                "equal": equal,
                "us_per_record": cost,
            }
        )
    # All from the first flight of the partition that reaches the time: each carrier's are in one partition.
    again = _counted(_from(_SUBSCRIBERS["united"].wants, flights, since_ms), since_ms)
    checks = {"each_got_exactly_its_own": all(row["equal"] for row in rows), "since_equal": back.since() == again.since()}
    summary: dict[str, Any] = {"records": len(flights), **checks, "read_again": sum(back.counts().values())}
    summary |= {f"{name}_s": round(took, 2) for name, took in seconds.items()}
    summary["records_judged_per_s"] = round(len(flights) * len(rows) / seconds["read"])
    if invocation.output == "table":
        print_rows(invocation, rows, tuple(rows[0]))
        print()
    print_item(invocation, summary if invocation.output == "table" else {**summary, "subscriptions": rows})
    if all(checks.values()):
        return 0
    note(invocation, "a subscription did not get what its filter says")
    return failures.FAILURE


def _counted(flights: Iterable[Flight], since_ms: int) -> Tally:
    tally = Tally(since_ms)
    for flight in flights:
        tally.add(flight)
    return tally


def _from(wants: Judge, flights: Iterable[Flight], since_ms: int) -> Iterator[Flight]:
    """Those that are wanted and at or after the time; a time stamp may go back, so others may be read with them."""
    return (flight for flight in flights if flight.timestamp_ms >= since_ms and wants(flight))


def _cost_us(expression: str | None, flights: list[Flight]) -> float:
    """What judging a record costs, in this process."""
    judge, where = compile_filter(expression or "true"), TopicPartition("flights", 0)
    records = [
        StoredRecord(offset, one.timestamp_ms, one.carrier.encode(), msgspec.json.encode(one.row), ())
        for offset, one in enumerate(flights[:_SAMPLE])
    ]
    began = time.process_time()
    for record in records:
        judge.verdict(record, where)
    return round((time.process_time() - began) / len(records) * 1e6, 1)
