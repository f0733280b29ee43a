"""The HTTP door: produce and fetch, the broker alone on one core and the client on another."""

import json
import os
from pathlib import Path

from logbroker.model import Record
from logbroker.records.codec import encode
from tools.bench.http_load import Connection, Load, drive, request
from tools.bench.measure import ROUNDS, WARM_UP, Figure, at_least, cores, percentile
from tools.bench.servers.logbroker import logbroker
from tools.bench.servers.process import Server

BATCH = 100
RECORD_BYTES = 100
CONNECTIONS = 8
REQUESTS = 600
SINGLES = 2_000
_BATCH_TYPE = "application/vnd.logbroker.recordbatch"


def run(directory: Path) -> list[Figure]:
    """Start a broker, measure, stop it."""
    with logbroker(directory) as server:
        server.pin({cores()[0]})
        os.sched_setaffinity(0, {cores()[-1]})
        return _measure(server)


def _topic(connection: Connection, name: str, durability: str) -> None:
    body = json.dumps({"partitions": 1, "config": {"durability": durability, "retention_ms": -1}})
    connection.call(request("PUT", f"/v1/topics/{name}", body.encode()))


def _requests() -> dict[str, tuple[bytes, int, int]]:
    """Name to request, the records it carries, and how many of them make one round."""
    values = [f"{number:08d}".ljust(RECORD_BYTES, "x") for number in range(BATCH)]
    records = json.dumps({"records": [{"value": value} for value in values]}).encode()
    lines = "".join(json.dumps({"value": value}) + "\n" for value in values).encode()
    batch = encode([Record(value.encode()) for value in values], now_ms=1_700_000_000_000)
    single = json.dumps({"records": [{"value": values[0]}]}).encode()

    def produce(topic: str, body: bytes, content_type: str = "application/json") -> bytes:
        return request("POST", f"/v1/topics/{topic}/records", body, content_type)

    batches = request("POST", "/v1/topics/flushed/partitions/0/batches", batch, _BATCH_TYPE)
    fetch = "/v1/topics/flushed/partitions/0/records?offset=0&max_records=100"
    return {
        "produce JSON, flushed": (produce("flushed", records), BATCH, REQUESTS),
        "produce JSON, durability os": (produce("written", records), BATCH, REQUESTS),
        "produce NDJSON, flushed": (produce("flushed", lines, "application/x-ndjson"), BATCH, REQUESTS),
        "produce raw batches, flushed": (batches, BATCH, REQUESTS),
        "produce single, flushed": (produce("flushed", single), 1, SINGLES),
        "produce single, durability os": (produce("written", single), 1, SINGLES),
        "fetch JSON": (request("GET", fetch), BATCH, REQUESTS),
    }


def _measure(server: Server) -> list[Figure]:
    connections = [Connection(server.port) for _ in range(CONNECTIONS)]
    for name, durability in (("flushed", "fsync"), ("written", "os")):
        _topic(connections[0], name, durability)
    cases = _requests()
    runs: dict[str, list[tuple[Load, float]]] = {name: [] for name in cases}
    for number in range(WARM_UP + ROUNDS):
        for name, (data, _, total) in cases.items():
            before = server.cpu_seconds()
            load = drive(connections, data, total)
            if number >= WARM_UP:
                runs[name].append((load, server.cpu_seconds() - before))
    figures = [_rate(name, runs[name], cases[name][1]) for name in cases]
    latency = drive(connections[:1], cases["produce single, flushed"][0], SINGLES).latencies
    name = "produce single, flushed, one client"
    figures += [Figure(f"{name}, p{percent}", percentile(latency, percent) * 1e3, "ms") for percent in (50, 99)]
    return [*figures, Figure("memory under load", server.resident_bytes() / 1e6, "MB")]


def _rate(name: str, runs: list[tuple[Load, float]], records: int) -> Figure:
    best, _ = min(runs, key=lambda run: run[0].seconds)
    rate = records * len(best.latencies) / best.seconds
    used = sum(cpu for _, cpu in runs) / sum(load.seconds for load, _ in runs)
    per_request = sum(cpu for _, cpu in runs) / sum(len(load.latencies) for load, _ in runs)
    goals = [at_least(300_000)] if name == "produce JSON, flushed" else []
    note = f"{used:.0%} of the broker's core, {per_request * 1e6:.0f} us of its CPU a request"
    return Figure(name, rate, "records/s", goals, note)
