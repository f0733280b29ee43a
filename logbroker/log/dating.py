"""How old the files of a partition are, by the file system.

Invariant: no answer lies in the future. Files that were changed while the clock was wrong are dated again, all at once, so
that what depends on their age is late by the same time for each, and not by one after the other.
"""

from logbroker.log.place import Place
from logbroker.log.retention import Changed
from logbroker.log.segments import Segments
from logbroker.model import SegmentInfo


def changed_by(place: Place, segments: Segments, now_ms: int) -> Changed:
    """When the file of a segment was last changed, as of ``now_ms``. Raises StorageError when asked."""
    files = place.files

    def changed_ms(info: SegmentInfo) -> int:
        known_ms = files.changed_ms(segments.holding(info.base_offset).log.path)
        if known_ms > now_ms:
            for path in [segment.log.path for segment in segments]:
                if files.changed_ms(path) > now_ms:
                    files.date(path, now_ms)
        return min(known_ms, now_ms)

    return changed_ms
