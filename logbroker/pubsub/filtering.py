"""The filter of a subscription: which version of it judges which record, and the verdict.

What lives here: versions compiled, and their verdicts. What may not: where records are read, what is done with them.
Invariant: an expression that errors on a record does not match it.
"""

from collections.abc import Sequence

from logbroker.filters import Filter, Verdict, compile_filter
from logbroker.model import StoredRecord, TopicPartition
from logbroker.pubsub.definition import FilterVersion


class VersionedFilter:
    """The versions of one subscription's filter. Raises FilterInvalid for one that does not compile."""

    def __init__(self, versions: Sequence[FilterVersion]) -> None:
        self._versions = [
            (version.since, None if version.filter is None else compile_filter(version.filter)) for version in versions
        ]
        judges = [judge for _, judge in self._versions if judge is not None]
        self.takes_all = not judges
        """Whether there is nothing to judge."""
        self.heavy = any(judge.heavy for judge in judges)
        """Whether one record may take long, so that it is judged in a thread."""

    def verdict(self, where: TopicPartition, record: StoredRecord) -> Verdict:
        """What the version that judges a record says of it."""
        judge = self._judge(where.partition, record.offset)
        return Verdict.MATCH if judge is None else judge.verdict(record, where)

    def _judge(self, partition: int, offset: int) -> Filter | None:
        """The newest version that judges an offset; versions from before it hold from 0 where nothing else is said."""
        if len(self._versions) > 1:
            for since, judge in reversed(self._versions):
                if since.get(partition, 0) <= offset:
                    return judge
        return self._versions[0][1]
