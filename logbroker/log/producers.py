"""What a partition remembers of its idempotent and transactional producers (KIP-98, KIP-360).

What lives here: for each producer id its epoch, its last five batches and where its open transaction begins, the check of a
new batch against them, and their form on disk. What may not: I/O, clocks.
Invariants: ``check`` changes nothing; ``record`` is the only mutation, used live and when the log is replayed. A
producer is forgotten 24 hours after its last append by the broker's clock (Kafka goes by the records' timestamps, so
there a producer that writes old records is forgotten at once), but never while its transaction is open.

Snapshot (big endian): magic ``LBPS`` 4, version u16, zero u16, offset i64, producers u32; for each: id i64, epoch
i16, batches u16, last append i64, first offset of its open transaction i64 (-1: none), then for each batch: first and
last sequence i32, base offset i64, last offset i64, append time i64; CRC-32C of all before u32. It holds the state
after the batches below its offset.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from crc32c import crc32c

from logbroker.config import DAY_MS, INT32_MAX
from logbroker.errors import DuplicateSequence, InvalidProducerEpoch, InvalidTransactionState, OutOfOrderSequence
from logbroker.log.open_transactions import OpenTransactions
from logbroker.records.batch import NO_SEQUENCE, TRANSACTIONAL_BIT, BatchHeader

WINDOW = 5
"""Batches remembered per producer: Kafka's clients have at most five requests in flight."""
EXPIRE_MS = DAY_MS

_HEAD = struct.Struct(">4sHxxqI")
_PRODUCER = struct.Struct(">qhHqq")
_BATCH = struct.Struct(">iiqqq")
_CRC = struct.Struct(">I")
_MAGIC = b"LBPS"
_VERSION = 2


class ProducedBatch(NamedTuple):
    """A batch an idempotent producer appended."""

    first_sequence: int
    last_sequence: int
    base_offset: int
    last_offset: int
    append_time_ms: int
    """As in ``Appended``: -1 unless the topic stamps append times."""


class ProducerState(NamedTuple):
    """A producer as the partition knows it. ``batches`` ascend; there is none where only a marker has its epoch."""

    producer_id: int
    epoch: int
    batches: tuple[ProducedBatch, ...]
    last_append_ms: int
    """By the broker's clock."""

    @property
    def last_sequence(self) -> int:
        """The sequence of its last record; -1 where there is none in its epoch."""
        return self.batches[-1].last_sequence if self.batches else NO_SEQUENCE


class Producers:
    """The producers of one partition."""

    def __init__(self, states: Iterable[ProducerState] = (), transactions: OpenTransactions | None = None) -> None:
        self._states = {state.producer_id: state for state in states}
        self.transactions = transactions or OpenTransactions()

    def __len__(self) -> int:
        return len(self._states)

    def __iter__(self) -> Iterator[ProducerState]:
        return iter(self._states.values())

    def check(self, headers: Sequence[BatchHeader]) -> ProducedBatch | None:
        """Whether the batches follow what their producers appended; None if they do.

        Where they repeat remembered batches, one that spans the originals. Raises OutOfOrderSequence, DuplicateSequence,
        InvalidProducerEpoch, InvalidTransactionState.
        """
        if len(headers) == 1 and headers[0].producer_id < 0:
            return None
        ahead: dict[int, tuple[int, int]] = {}
        repeated: list[ProducedBatch] = []
        fresh = False
        for header in headers:
            original = self._original(header) if header.producer_id >= 0 and header.producer_id not in ahead else None
            if original is not None:
                repeated.append(original)
                continue
            fresh = True
            if header.producer_id >= 0:
                self._check_follows(header, ahead.get(header.producer_id))
                ahead[header.producer_id] = (header.producer_epoch, header.last_sequence)
        if not repeated:
            return None
        if fresh:
            raise OutOfOrderSequence("some of the batches were appended before and some were not; nothing was written")
        return repeated[0]._replace(last_offset=repeated[-1].last_offset)

    def _original(self, header: BatchHeader) -> ProducedBatch | None:
        state = self._states.get(header.producer_id)
        if state is None or state.epoch != header.producer_epoch:
            return None
        sequences = (header.base_sequence, header.last_sequence)
        return next((one for one in state.batches if one[:2] == sequences), None)

    def _check_follows(self, header: BatchHeader, ahead: tuple[int, int] | None) -> None:
        state = self._states.get(header.producer_id)
        if not header.is_transactional and self.transactions.first_offset(header.producer_id) is not None:
            raise InvalidTransactionState(f"producer {header.producer_id} has an open transaction, this batch is of none")
        if state is None and ahead is None:
            return  # forgotten or new: any sequence begins it (KIP-360)
        epoch, last = ahead if ahead is not None else (state.epoch, state.last_sequence) if state is not None else (0, 0)
        who = f"producer {header.producer_id}, epoch {header.producer_epoch}"
        if header.producer_epoch < epoch:
            raise InvalidProducerEpoch(f"{who}: epoch {epoch} is active")
        if header.producer_epoch > epoch:
            if header.base_sequence != 0:
                raise OutOfOrderSequence(f"{who}: a new epoch starts with sequence 0, not {header.base_sequence}")
            return
        expected = (last + 1) & INT32_MAX
        if header.base_sequence == expected:
            return
        first_known = state.batches[0].first_sequence if state and state.batches and ahead is None else expected
        if _is_before(header.last_sequence, first_known):
            raise DuplicateSequence(f"{who}: sequence {header.base_sequence} was appended before the last {WINDOW} batches")
        raise OutOfOrderSequence(f"{who}: sequence {header.base_sequence} instead of {expected}")

    def record(self, header: BatchHeader, base_offset: int, append_time_ms: int, now_ms: int) -> None:
        """Remember an appended batch; one without a producer id leaves no trace."""
        if header.producer_id < 0:
            return
        last_offset = base_offset + header.last_offset_delta
        batch = ProducedBatch(header.base_sequence, header.last_sequence, base_offset, last_offset, append_time_ms)
        known = self._states.get(header.producer_id)
        earlier = known.batches[1 - WINDOW :] if known is not None and known.epoch == header.producer_epoch else ()
        self._states[header.producer_id] = ProducerState(
            header.producer_id, header.producer_epoch, (*earlier, batch), now_ms
        )
        if header.attributes & TRANSACTIONAL_BIT:
            self.transactions.wrote(header.producer_id, base_offset)

    def awaits_marker(self, producer_id: int, epoch: int) -> bool:
        """Whether a marker of ``epoch`` would change anything here. Raises InvalidProducerEpoch where it comes too late."""
        state = self._states.get(producer_id)
        if state is None:
            return True
        if epoch < state.epoch:
            raise InvalidProducerEpoch(f"producer {producer_id}, epoch {epoch}: epoch {state.epoch} is active")
        return epoch > state.epoch or self.transactions.first_offset(producer_id) is not None

    def ended(self, header: BatchHeader, marker_offset: int, now_ms: int) -> None:
        """A marker with that header stands at ``marker_offset``."""
        state = self._states.get(header.producer_id)
        batches = state.batches if state is not None and state.epoch == header.producer_epoch else ()
        self._states[header.producer_id] = ProducerState(header.producer_id, header.producer_epoch, batches, now_ms)
        self.transactions.ended(header.producer_id, marker_offset)

    def expire(self, now_ms: int) -> None:
        """Forget who has not appended for long."""
        for state in [one for one in self if now_ms - one.last_append_ms >= EXPIRE_MS]:
            if self.transactions.first_offset(state.producer_id) is None:
                del self._states[state.producer_id]


def _is_before(sequence: int, other: int) -> bool:
    """Whether ``sequence`` lies before ``other`` on the circle of 2^31 numbers."""
    return 0 < (other - sequence) & INT32_MAX < 1 << 30


def encode_producers(producers: Producers, offset: int) -> bytes:
    """A snapshot, valid at ``offset``."""
    pieces = [_HEAD.pack(_MAGIC, _VERSION, offset, len(producers))]
    for state in producers:
        first = producers.transactions.first_offset(state.producer_id)
        start = -1 if first is None else first
        pieces.append(_PRODUCER.pack(state.producer_id, state.epoch, len(state.batches), state.last_append_ms, start))
        pieces += [_BATCH.pack(*batch) for batch in state.batches]
    body = b"".join(pieces)
    return body + _CRC.pack(crc32c(body))


def decode_producers(data: bytes) -> tuple[Producers, int] | None:
    """The producers in a snapshot and its offset; None where it is not whole or of a version not known here."""
    body = memoryview(data)[: -_CRC.size]
    if len(data) < _HEAD.size + _CRC.size or crc32c(body) != _CRC.unpack_from(data, len(body))[0]:
        return None
    magic, version, offset, count = _HEAD.unpack_from(body)
    if (magic, version) != (_MAGIC, _VERSION):
        return None
    states = []
    open_since = {}
    at = _HEAD.size
    for _ in range(count):
        producer_id, epoch, batches, last_append, start = _PRODUCER.unpack_from(body, at)
        if start >= 0:
            open_since[producer_id] = start
        at += _PRODUCER.size
        end = at + batches * _BATCH.size
        states.append(
            ProducerState(
                producer_id, epoch, tuple(map(ProducedBatch._make, _BATCH.iter_unpack(body[at:end]))), last_append
            )
        )
        at = end
    return Producers(states, OpenTransactions(open_since)), offset
