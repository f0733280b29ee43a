"""The filter of a subscription at work: which records of its topic are messages, by the version that judges each.

What lives here: versions compiled, and their verdicts. What may not: where records are read, what is done with them.
Invariants: an expression that errors on a record does not match it, and that is counted; looking counts nothing.
"""

from collections.abc import Callable, Iterator, Sequence

from logbroker.filters import Filter, Verdict, compile_filter
from logbroker.model import StoredRecord, TopicPartition
from logbroker.pubsub.definition import FilterVersion

Count = Callable[[str, int], None]


class VersionedFilter:
    """The versions of one subscription's filter. Raises FilterInvalid for one that does not compile."""

    def __init__(self, versions: Sequence[FilterVersion]) -> None:
        self._versions = [
            (version.since, None if version.filter is None else compile_filter(version.filter)) for version in versions
        ]

    @property
    def takes_all(self) -> bool:
        """Whether there is nothing to judge."""
        return all(judge is None for _, judge in self._versions)

    def takes(self, where: TopicPartition, record: StoredRecord) -> bool:
        """Whether a record is a message."""
        judge = self._judge(where.partition, record.offset)
        return judge is None or judge.verdict(record, where) is Verdict.MATCH

    def chosen(self, where: TopicPartition, records: Sequence[StoredRecord], count: Count) -> Iterator[StoredRecord]:
        """Those of ascending records that are messages; what is left out is counted."""
        left_out = errors = 0
        single = self._versions[0][1] if len(self._versions) == 1 else None
        for record in records:
            judge = self._judge(where.partition, record.offset) if single is None else single
            verdict = Verdict.MATCH if judge is None else judge.verdict(record, where)
            if verdict is Verdict.MATCH:
                yield record
            else:
                left_out += 1
                errors += verdict is Verdict.ERROR
        if left_out:
            count("filtered", left_out)
        if errors:
            count("filter_errors", errors)

    def _judge(self, partition: int, offset: int) -> Filter | None:
        """The newest version that judges an offset; versions from before it hold from 0 where nothing else is said."""
        for since, judge in reversed(self._versions):
            if since.get(partition, 0) <= offset:
                return judge
        return self._versions[0][1]
