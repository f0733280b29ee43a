"""What the Kafka benchmark does with a broker by Kafka's own Java perf tools."""

import re

from tools.bench.servers.kafka import run_tool

PERF_OPTIONS = ["-Xmx512M"]
"""As bin/kafka-producer-perf-test.sh runs it: with the optimising compiler."""
_TIMEOUT = 120.0


def produce(address: str, topic: str, size: int, count: int) -> float:
    """MB/s of ProducerPerformance with its default settings."""
    arguments = ["--topic", topic, "--num-records", str(count), "--record-size", str(size), "--throughput", "-1"]
    arguments += ["--producer-props", f"bootstrap.servers={address}"]
    told = run_tool("org.apache.kafka.tools.ProducerPerformance", *arguments, options=PERF_OPTIONS, timeout=_TIMEOUT)
    rates = re.findall(r"sent, ([\d.]+) records/sec", told)
    return float(rates[-1]) * size / 1e6


def consume(address: str, topic: str, size: int, count: int) -> float:
    """MB/s that ConsumerPerformance fetches, without the time its group takes to form."""
    arguments = ["--topic", topic, "--messages", str(count), "--bootstrap-server", address]
    told = run_tool("org.apache.kafka.tools.ConsumerPerformance", *arguments, options=PERF_OPTIONS, timeout=_TIMEOUT)
    lines = told.strip().splitlines()
    names, values = ([field.strip() for field in line.split(",")] for line in (lines[0], lines[-1]))
    return float(values[names.index("fetch.nMsg.sec")]) * size / 1e6
