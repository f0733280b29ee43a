"""The topics of an engine as consumer groups see them when they decide.

What lives here: look-ups, and which names a pattern matches, remembered while the names stay. What may not: decisions.
Invariant: the engine changes its topics between decisions only, so within one decision every answer is of one moment.
"""

from logbroker.engine.api import Engine
from logbroker.errors import UnknownTopicOrPartition
from logbroker.groups.consumer_events import TopicFacts
from logbroker.groups.patterns import names_matching

_PATTERNS_KEPT = 1_000


class EngineCatalogue:
    """A ``consumer_messages.Catalogue`` over an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._names: list[str] = []
        self._matches: dict[str, frozenset[str]] = {}

    def facts(self, topic: str) -> TopicFacts | None:
        """Id and number of partitions; None for a topic that does not exist."""
        try:
            info = self._engine.topic(topic)
        except UnknownTopicOrPartition:
            return None
        return TopicFacts(info.id, info.partitions)

    def matching(self, pattern: str) -> frozenset[str]:
        """The names that a pattern matches, the broker's own topics left out."""
        names = [info.name for info in self._engine.topics() if info.owner != "internal"]
        if names != self._names or len(self._matches) > _PATTERNS_KEPT:
            self._names, self._matches = names, {}
        if pattern not in self._matches:
            self._matches[pattern] = names_matching(pattern, names)
        return self._matches[pattern]
