"""What a filter costs per record: headers, keys, and values of 0.1 and 1 KB that have to be parsed."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from logbroker.filters import Filter, compile_filter
from logbroker.model import Header, StoredRecord, TopicPartition
from tools.bench.measure import Figure, cpu, interleaved

RECORDS = 5_000
WHERE = TopicPartition("orders", 0)
FILTERS = {
    "one header": 'headers.region == "eu"',
    "two headers": 'headers.region == "eu" && headers.type == "order"',
    "key": 'key == "k7"',
    "time and partition": "timestamp > 5 && partition == 0",
    "field of the value": "value.amount > 10.0",
    "two fields of the value": 'value.customer.region == "eu" && value.type == "order"',
    "loop over a list": 'value.items.exists(i, i.sku == "s1")',
    "regular expression": 'value.customer.name.matches("^A.*")',
}


def run(directory: Path) -> list[Figure]:
    """The cost of each filter on small and on larger records."""
    cases: dict[str, Callable[[], float]] = {}
    for size, items in (("0.1 KB", 1), ("1 KB", 40)):
        records = [_record(number, items) for number in range(RECORDS)]
        for name, text in FILTERS.items():
            cases[f"{name}, {size}"] = partial(_cost, compile_filter(text), records)
    cases["compiling one"] = lambda: cpu(lambda: [compile_filter(FILTERS["two headers"]) for _ in range(500)]) / 500
    return [Figure(name, cost * 1e6, "us") for name, cost in interleaved(cases).items()]


def _cost(asked: Filter, records: Sequence[StoredRecord]) -> float:
    return cpu(lambda: [asked.verdict(record, WHERE) for record in records]) / len(records)


def _record(number: int, items: int) -> StoredRecord:
    value = {
        "type": "order",
        "amount": number % 50 + 0.5,
        "customer": {"name": "Anna", "region": "eu"},
        "items": [{"sku": f"s{at}", "count": at} for at in range(items)],
    }
    headers = (Header("region", b"eu"), Header("type", b"order"))
    return StoredRecord(number, 1_700_000_000_000, b"k%d" % (number % 10), msgspec.json.encode(value), headers)
