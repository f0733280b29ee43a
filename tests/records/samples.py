"""Batches that Kafka's own code wrote, and random records.

KAFKA_WROTE was printed by a Java program over kafka-clients 4.1.0: ``MemoryRecords.builder`` with magic 2, base offset 40,
leader epoch 3, producer (7, epoch 1, sequence 5) and RECORDS, once for each codec, once with append time
1,700,000,000,500; and ``MemoryRecords.withEndTransactionMarker`` for a COMMIT at offset 50 by coordinator epoch 9.
"""

from hypothesis import strategies as st

from logbroker.model import Header, ProducerStamp, Record, StoredRecord
from logbroker.records.batch import BatchHeader, Buffer, parse_header, sealed_header

PRODUCER = ProducerStamp(7, 1, 5)
RECORDS = [
    Record(None, None, (), 1_700_000_000_000),
    Record(b"value " * 20, b"k", (Header("h", b"x"), Header("né", None), Header("h", b"")), 1_699_999_999_999),
    Record(b"", b"", (), 1_700_000_000_007),
]

KAFKA_WROTE = {
    name: bytes.fromhex(digits)
    for name, digits in {
        "none": (
            "0000000000000028000000cd00000003027ff0dc2e0000000000020000018bcfe568000000018bcfe5680700000000000000"
            "07000100000005000000030c0000000101009802000102026bf00176616c75652076616c75652076616c75652076616c7565"
            "2076616c75652076616c75652076616c75652076616c75652076616c75652076616c75652076616c75652076616c75652076"
            "616c75652076616c75652076616c75652076616c75652076616c75652076616c75652076616c75652076616c756520060268"
            "0278066ec3a9010268000c000e04000000"
        ),
        "gzip": (
            "00000000000000280000007100000003028375c0bd0001000000020000018bcfe568000000018bcfe5680700000000000000"
            "07000100000005000000031f8b08000000000000ffe361606060646498c1c4c0c8c494fd81b12c31a7345581fe241b530653"
            "055bdee1958c4c190c3c0c7c2c40770100460980929c000000"
        ),
        "snappy": (
            "00000000000000280000007900000003021e1039830002000000020000018bcfe568000000018bcfe5680700000000000000"
            "070001000000050000000382534e41505059000000000100000001000000349c01540c0000000101009802000102026bf001"
            "76616c756520fe0600c606004c0602680278066ec3a9010268000c000e04000000"
        ),
        "lz4": (
            "00000000000000280000007100000003020389b7450003000000020000018bcfe568000000018bcfe5680700000000000000"
            "070001000000050000000304224d1860408231000000ff070c0000000101009802000102026bf00176616c75652006005ff0"
            "050602680278066ec3a9010268000c000e0400000000000000"
        ),
        "zstd": (
            "00000000000000280000006f00000003026703d09e0004000000020000018bcfe568000000018bcfe5680700000000000000"
            "070001000000050000000328b52ffd0058940100a4020c0000000101009802000102026bf00176616c756520060268027806"
            "6ec3a9010268000c000e0400000001005ed2d204010000"
        ),
        "append_time": (
            "0000000000000028000000cd0000000302c6d2c0d70008000000020000018bcfe568000000018bcfe569f400000000000000"
            "07000100000005000000030c0000000101009802000102026bf00176616c75652076616c75652076616c75652076616c7565"
            "2076616c75652076616c75652076616c75652076616c75652076616c75652076616c75652076616c75652076616c75652076"
            "616c75652076616c75652076616c75652076616c75652076616c75652076616c75652076616c75652076616c756520060268"
            "0278066ec3a9010268000c000e04000000"
        ),
        "commit_marker": (
            "00000000000000320000004200000003024ece5c670030000000000000018bcfe568000000018bcfe5680000000000000000"
            "070001ffffffff000000012000000008000000010c00000000000900"
        ),
    }.items()
}


def stored(records: list[Record], base_offset: int = 0, append_time_ms: int | None = None) -> list[StoredRecord]:
    """What reading ``records`` back must give."""
    appended = append_time_ms is not None
    return [
        StoredRecord(
            base_offset + delta,
            append_time_ms if append_time_ms is not None else record.timestamp_ms or 0,
            record.key,
            record.value,
            record.headers,
            appended,
        )
        for delta, record in enumerate(records)
    ]


def resealed(header: BatchHeader, records: Buffer) -> bytes:
    """A batch of any bytes as records, with the length and CRC that make it pass for whole."""
    return sealed_header(header._replace(batch_length=49 + len(records)), records) + bytes(records)


def with_records(batch: bytes, records: Buffer) -> bytes:
    """``batch`` with other bytes for its records, under the same header otherwise."""
    return resealed(parse_header(batch), records)


names = st.text(st.characters(codec="utf-8"), max_size=8)
headers = st.lists(st.builds(Header, names, st.none() | st.binary(max_size=12)), max_size=3).map(tuple)
payloads = st.none() | st.binary(max_size=200) | st.integers(0, 3000).map(lambda size: b"repetition " * size)
timestamps = st.integers(0, 2**41) | st.integers(0, 2**63 - 1)
records = st.lists(
    st.builds(Record, payloads, st.none() | st.binary(max_size=20), headers, timestamps), min_size=1, max_size=8
)
