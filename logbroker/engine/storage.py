"""A capability only the embedded engine has: the files below the log."""

import asyncio
from collections.abc import Callable, Mapping

from logbroker.engine.api import SegmentCheck, SegmentPage
from logbroker.engine.frozen import Freezer
from logbroker.engine.inspection import page_of_segment
from logbroker.engine.raw import Lookup
from logbroker.engine.scrubber import Scrubber
from logbroker.errors import UnknownTopicOrPartition
from logbroker.log.files import Files
from logbroker.model import SegmentInfo, TopicPartition


class EmbeddedStorage:
    """``Storage`` over the open partitions."""

    def __init__(
        self,
        partition: Lookup,
        files: Files,
        path_of: Callable[[TopicPartition], str],
        freezer: Freezer,
        scrubber: Scrubber,
    ) -> None:
        self._partition = partition
        self._files = files
        self._path_of = path_of
        self._scrubber = scrubber
        self.freeze = freezer.freeze
        self.release = freezer.release
        self.check = scrubber.check

    def segments(self, where: TopicPartition) -> list[SegmentInfo]:
        return self._partition(where).log.segments()

    def size_bytes(self, where: TopicPartition) -> int:
        return self._partition(where).log.size_bytes

    def checks(self, where: TopicPartition) -> Mapping[int, SegmentCheck]:
        return self._scrubber.checks.get(where, {})

    async def look_into(self, where: TopicPartition, base_offset: int, position: int, limit: int) -> SegmentPage:
        segments = self.segments(where)
        segment = next((one for one in segments if one.base_offset == base_offset), None)
        if segment is None:
            raise UnknownTopicOrPartition(f"{where} has no segment with base offset {base_offset}", **where._asdict())
        return await asyncio.to_thread(page_of_segment, self._files, self._path_of(where), segment, position, limit)
