"""How far everything is known to be on disk, and what that allows to be deleted.

What lives here: the recovery point with the snapshot of producer windows that belongs to it, when to store them, and the
log start offset beside them. What may not: flushing logs, deleting segments (``partition``).
Invariants: the recovery point moves only over what was flushed. It is durable before anything behind a sealed segment is
acknowledged: a recovery that started in front of the seal could take a damaged end of that segment for one that was
never flushed. Whatever a power cut leaves of it, recovery finds all it needs at or behind ``needed_from``.
"""

from logbroker.config import MIB, SECOND_MS
from logbroker.log.checkpoint import Checkpoint, Checkpointed
from logbroker.log.snapshots import Snapshots
from logbroker.log.state import SegmentState

_BYTES_APART = 64 * MIB
_MS_APART = SECOND_MS


class RecoveryPoint:
    """The stored recovery point of one partition."""

    def __init__(self, checkpoint: Checkpoint, snapshots: Snapshots, stored: Checkpointed, mono_ms: int) -> None:
        self._checkpoint = checkpoint
        self._snapshots = snapshots
        self._stored = stored
        self._stored_at_ms = mono_ms

    @property
    def base_offset(self) -> int:
        """The segment of the stored recovery point: a recovery looks at nothing in front of it."""
        return self._stored.recovery_point.base_offset

    def is_due(self, state: SegmentState, mono_ms: int) -> bool:
        """Whether to store ``state``, once it is flushed."""
        return self.is_far_behind(state.base_offset, state.size) or mono_ms - self._stored_at_ms >= _MS_APART

    def is_far_behind(self, base_offset: int, size: int) -> bool:
        """Whether a recovery would have to read more than it should of a log that ends at ``size`` of that segment."""
        return self._is_rolled_past(base_offset) or size - self._stored.recovery_point.size >= _BYTES_APART

    def _is_rolled_past(self, base_offset: int) -> bool:
        return base_offset != self._stored.recovery_point.base_offset

    def store(self, state: SegmentState, active_since_ms: int, producers: bytes | None, mono_ms: int) -> list[str]:
        """All before ``state`` is flushed, and ``producers`` is the snapshot that belongs to it, None if there are none.

        Returns the paths of snapshots that were removed. Raises StorageError, and FlushFailed when the disk is in doubt.
        """
        removed = self.store_snapshot(state.next_offset, producers) if producers is not None else []
        values = Checkpointed(state, self._stored.log_start_offset, active_since_ms, producers is not None)
        self._checkpoint.store(values, durable=self._is_rolled_past(state.base_offset))
        self._stored = values
        self._stored_at_ms = mono_ms
        return removed

    def store_snapshot(self, offset: int, snapshot: bytes) -> list[str]:
        """Write a snapshot of producer windows. Returns the paths of those removed. Raises StorageError."""
        return self._snapshots.store(offset, snapshot)

    def snapshot_is_durable(self, offset: int) -> None:
        """The snapshot at ``offset`` was flushed."""
        self._snapshots.durable = offset

    def move_log_start(self, offset: int, active_since_ms: int) -> None:
        """Make the log start offset durable. Raises StorageError, and FlushFailed when the disk is in doubt."""
        values = self._stored._replace(log_start_offset=offset, active_since_ms=active_since_ms)
        self._checkpoint.store(values, durable=True)
        self._stored = values

    def needed_from(self, *, has_producers: bool) -> int:
        """Segments that end at or before this offset are read by no recovery, for their records or to replay producers."""
        base_offset = self._stored.recovery_point.base_offset
        return min(base_offset, self._snapshots.durable or 0) if has_producers else base_offset

    def let_go(self) -> None:
        """Close the files."""
        self._checkpoint.let_go()
