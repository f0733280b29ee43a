"""The checkpoint of a partition: from where recovery must read, and where the log starts.

What lives here: the file ``checkpoint`` and its two slots. What may not: when to store it (``partition`` decides).

A slot (big endian; slot 0 at byte 0, slot 1 at byte 512, each in a sector of its own): magic ``LBCP`` 4, version u16,
flags u16 (bit 0: there were producer windows at the recovery point), sequence u64, log start offset i64, wall time of
the first append to the active segment i64 (-1: none), recovery point (a segment's state, see ``state``) 80, CRC-32C
of all before u32. Version 1 has the state of a digest of version 1, 72 bytes.

Invariants: the valid slot with the higher sequence counts. A slot is overwritten only while the other one is known to be on
disk, so a crash in the middle of a store leaves the earlier checkpoint. A recovery point that is older than it could be
only makes recovery read more, so it needs no flush; a log start offset is made durable before any file goes.
"""

import struct
from typing import NamedTuple

from crc32c import crc32c

from logbroker.errors import FlushFailed, PartitionDamaged, StorageError
from logbroker.log.descriptors import OpenFile
from logbroker.log.files import File, Files, parent
from logbroker.log.state import STATE_SIZE, STATE_V1_SIZE, SegmentState, decode_state, encode_state

_HEAD = struct.Struct(">4sHHQqq")
_CRC = struct.Struct(">I")
_SLOT_SIZE = _HEAD.size + STATE_SIZE + _CRC.size
_SLOT_STEP = 512
_MAGIC = b"LBCP"
_VERSION = 2
_HAS_PRODUCERS = 1


class Checkpointed(NamedTuple):
    """What a checkpoint says."""

    recovery_point: SegmentState
    """Everything before it is on disk."""
    log_start_offset: int
    active_since_ms: int = -1
    """Wall time of the first append to the segment of the recovery point; -1 where nobody knows."""
    has_producers: bool = False
    """Whether a snapshot of producer windows belongs to the recovery point."""


def encode_slot(sequence: int, values: Checkpointed) -> bytes:
    """The bytes of one slot."""
    flags = _HAS_PRODUCERS if values.has_producers else 0
    head = _HEAD.pack(_MAGIC, _VERSION, flags, sequence, values.log_start_offset, values.active_since_ms)
    body = head + encode_state(values.recovery_point)
    return body + _CRC.pack(crc32c(body))


def decode_slot(data: bytes) -> tuple[int, Checkpointed] | None:
    """Sequence and content of a slot, or None where it is not whole. Raises PartitionDamaged for a newer version."""
    if len(data) < _HEAD.size:
        return None
    magic, version, flags, sequence, log_start, active_since = _HEAD.unpack_from(data)
    body = data[: _HEAD.size + (STATE_V1_SIZE if version == 1 else STATE_SIZE)]
    crc = data[len(body) : len(body) + _CRC.size]
    if magic != _MAGIC or crc != _CRC.pack(crc32c(body)):
        return None
    if version > _VERSION:
        raise PartitionDamaged(
            f"a checkpoint has version {version}, written by a newer logbroker; this one knows {_VERSION}"
        )
    recovery_point = decode_state(body, _HEAD.size, version)
    return sequence, Checkpointed(recovery_point, log_start, active_since, bool(flags & _HAS_PRODUCERS))


class Checkpoint:
    """The checkpoint file of one partition; made at the first store."""

    def __init__(self, files: Files, file: OpenFile) -> None:
        self._files = files
        self._file = file
        self._exists = files.exists(file.path)
        self._name_is_durable = False  # nor need it be where it exists: it may be from just before a kill
        self._sequence = 0
        self._newest = 0
        self._durable: int | None = None
        """The slot that is known to be on disk; the other one is written."""

    def load(self) -> Checkpointed | None:
        """The newest whole checkpoint, or None. Raises StorageError, and PartitionDamaged for a newer version."""
        if not self._exists:
            return None
        data = self._file.get().pread(_SLOT_STEP + _SLOT_SIZE, 0)
        found: Checkpointed | None = None
        for slot in (0, 1):
            decoded = decode_slot(data[slot * _SLOT_STEP : slot * _SLOT_STEP + _SLOT_SIZE])
            if decoded is not None and decoded[0] > self._sequence:
                self._sequence, found = decoded
                self._newest = slot
        return found

    def store(self, values: Checkpointed, *, durable: bool) -> None:
        """Store ``values``, on disk on return if ``durable``. Raises StorageError, FlushFailed."""
        file = self._create() if not self._exists else self._file.get()
        if self._durable is None:
            self._sync(file)
            self._durable = self._newest
        slot = 1 - self._durable
        self._sequence += 1
        file.pwrite(encode_slot(self._sequence, values), slot * _SLOT_STEP)
        self._newest = slot
        if durable:
            self._sync(file)
            self._durable = slot

    def let_go(self) -> None:
        """Close the file."""
        self._file.let_go()

    def _create(self) -> File:
        file = self._file.create()
        self._exists = True
        self._durable = 1  # there is nothing in it yet that would have to be kept
        return file

    def _sync(self, file: File) -> None:
        try:
            file.fdatasync()
            if not self._name_is_durable:
                self._files.sync_dir(parent(self._file.path))
                self._name_is_durable = True
        except StorageError as error:
            raise FlushFailed(f"the checkpoint could not be flushed: {error}", **error.fields) from error
