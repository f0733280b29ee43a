"""The writes of a recovery: cutting off a tail that was never flushed, and keeping what was cut.

Each step leaves a state that the next recovery understands: the copy is durable before the log is cut, and the indexes of a
segment go before its log gets another name.
"""

from logbroker.log.names import LOG, file_name, torn_name
from logbroker.log.place import Place
from logbroker.log.segment import Segment

_CHUNK = 1 << 20


def cut_off(place: Place, segment: Segment) -> tuple[list[str], int]:
    """Move what lies behind ``segment.size`` of its log into a ``.torn`` file. Returns its path and size."""
    log = segment.log.get()
    end = log.size()
    name = torn_name(file_name(segment.base_offset, LOG), segment.size, place.files.listdir(place.path))
    kept = place.files.create(place.at(name))
    for position in range(segment.size, end, _CHUNK):
        kept.append([log.pread(min(_CHUNK, end - position), position)])
    kept.fdatasync()
    kept.close()
    place.sync()
    segment.log.unmap()
    log.truncate(segment.size)
    log.fdatasync()
    return [place.at(name)], end - segment.size


def set_aside(place: Place, segments: list[Segment]) -> tuple[list[str], int]:
    """Rename the logs of whole segments to ``.torn``; an empty one is removed. Returns the new paths and their size."""
    for segment in segments:
        segment.delete_sidecars()
    place.sync()
    kept = []
    for segment in reversed(segments):
        segment.let_go()
        if segment.size:
            name = torn_name(file_name(segment.base_offset, LOG), 0, place.files.listdir(place.path))
            place.files.rename(segment.log.path, place.at(name))
            kept.append(place.at(name))
        else:
            place.files.unlink(segment.log.path)
    place.sync()
    return kept, sum(segment.size for segment in segments)


def write_again(segment: Segment, start: int) -> None:
    """Write the log from ``start`` on over itself and flush it (see ``recovery`` for why)."""
    log = segment.log.get()
    for position in range(start, segment.size, _CHUNK):
        log.pwrite(log.pread(min(_CHUNK, segment.size - position), position), position)
    log.fdatasync()
