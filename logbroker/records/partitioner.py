"""Which partition a key belongs to: Kafka's murmur2, so that every client of every language agrees.

What lives here: the hash and the choice it makes. What may not: how records without a key are spread.
Invariant: equal to ``org.apache.kafka.common.utils.Utils.murmur2`` and ``BuiltInPartitioner.partitionForKey`` bit for bit.
"""

from functools import lru_cache
from struct import Struct
from typing import Final

_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """Kafka's 32-bit murmur2 of ``key``, signed as Java has it."""
    length = len(key)
    h = _SEED ^ length
    for k in _words(length >> 2).unpack_from(key):
        k = k * _M & _MASK
        h = h * _M & _MASK ^ (k ^ k >> 24) * _M & _MASK
    tail = length & 3
    if tail:
        h = (h ^ int.from_bytes(key[-tail:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    h ^= h >> 15
    return h - 0x1_0000_0000 if h & 0x8000_0000 else h


@lru_cache(maxsize=128)
def _words(count: int) -> Struct:
    return Struct(f"<{count}I")


def partition_for_key(key: bytes, partitions: int) -> int:
    """The partition, of ``partitions`` in all, that a Java client gives to ``key``."""
    return (murmur2(key) & 0x7FFF_FFFF) % partitions
