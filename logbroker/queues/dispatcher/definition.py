"""What a dispatcher serves, as the catalogue keeps it: a view of a topic, and the view a queue has of its own topic.

What lives here: the documents, and the names and settings of the topics a view makes. What may not: I/O.
Invariant: ``incarnation`` is chosen once, at creation, and no two queues of one data directory share it: receipts, message
ids and copies carry it, so that whatever belongs to an earlier queue of the same name is told apart.

The machines of a queue share one journal, the only partition of ``__queue_{incarnation}``. A topic for each queue rather
than one for all: it comes and goes in the same write of the catalogue as its queue, damage stays with one queue, and no
partition of a deleted queue has to be kept or used again. It costs a partition (a directory, and a file once something was
received), and one flush per round of decisions; a queue that is idle flushes nothing. A thousand idle queues were measured
to load in 1.4 s and to take 50 KB each.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import msgspec

from logbroker.config import INT32_MAX, KIB, MIB, TopicConfig
from logbroker.engine.api import TopicSpec
from logbroker.errors import DataDirectoryError
from logbroker.model import TopicPartition
from logbroker.queues.commands import Seek
from logbroker.queues.positions import Place
from logbroker.queues.rules import LeaseRules
from logbroker.queues.settings import QueueSettings

VERSION = 1
COPY_ALLOWANCE = 64 * KIB
"""How much larger than the original a copy may be, for its reserved headers."""
_COPY_SEGMENT_BYTES = 16 * MIB
_FOR_EVER: Mapping[str, object] = {"retention_ms": -1, "retention_bytes": -1, "durability": "fsync"}


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A view of a topic: who reads it, under which name, and from where.

    ``starts`` says where each partition of a topic that was there before is read from; the others from 0.
    """

    KIND: ClassVar[str]
    IS_SENT_TO: ClassVar[bool]
    """Whether messages are sent to it, so that it has to know the ids of what was sent."""

    version: int = VERSION
    name: str
    incarnation: int
    created_ms: int
    starts: dict[int, int] = {}
    paused: bool = False

    @property
    def topic(self) -> str:
        """The topic whose records are its messages."""
        raise NotImplementedError

    @property
    def settings(self) -> QueueSettings:
        """How its messages are delivered."""
        raise NotImplementedError

    def rules(self) -> LeaseRules:
        """What its lease machines must know."""
        return self.settings.rules()

    @property
    def key(self) -> str:
        """Its key in the catalogue, and the owner of its topics."""
        return f"{self.KIND}:{self.name}"

    @property
    def retry(self) -> str:
        """The name of its retry topic."""
        return f"{self.name}.retry"

    @property
    def dead(self) -> str:
        """The name of its dead-letter topic."""
        return f"{self.name}.dlq"

    @property
    def journal(self) -> TopicPartition:
        """Where its machines keep their events."""
        return TopicPartition(f"__{self.KIND}_{self.incarnation:x}", 0)

    def place(self, partition: int, run: int) -> Place:
        """What the machine of a partition stands on."""
        topics = (TopicPartition(topic, partition) for topic in (self.topic, self.retry, self.dead))
        return Place(self.name, self.incarnation, partition, run, *topics)

    def seek_first(self, partition: int, generation: int) -> Seek | None:
        """What a machine of that generation has to be told before anything else: where it starts."""
        start = self.starts.get(partition, 0)
        return Seek(start) if start and generation == 0 else None

    def journal_spec(self) -> TopicSpec:
        """The journal as a topic to be created."""
        return TopicSpec(
            self.journal.topic, 1, {**_FOR_EVER, "segment_bytes": _COPY_SEGMENT_BYTES, "max_message_bytes": INT32_MAX}
        )

    def to_json(self) -> Any:
        """The document."""
        return msgspec.to_builtins(self, str_keys=True)


class Definition(View, frozen=True, kw_only=True):
    """A queue: the view that owns its topic, which is called as it is."""

    KIND = "queue"
    IS_SENT_TO = True

    settings: QueueSettings

    @property
    def topic(self) -> str:
        return self.name


V = TypeVar("V", bound=View)


def copy_spec(topic: str, partitions: int, source: TopicConfig) -> TopicSpec:
    """A retry or dead-letter topic as it has to be beside a source topic with that configuration."""
    largest = min(INT32_MAX, source.max_message_bytes + COPY_ALLOWANCE)
    return TopicSpec(
        topic,
        partitions,
        {**_FOR_EVER, "max_message_bytes": largest, "segment_bytes": max(_COPY_SEGMENT_BYTES, min(INT32_MAX, 2 * largest))},
    )


def definition_of(key: str, document: Any, kind: type[V]) -> V:
    """The definition of that kind in a document. Raises DataDirectoryError for what is not one, or a newer logbroker's."""
    try:
        if document["version"] > VERSION:
            raise DataDirectoryError(f"{key} was defined by a newer logbroker: use that")
        return msgspec.convert(document, kind, strict=False)
    except (KeyError, TypeError, msgspec.ValidationError) as error:
        raise DataDirectoryError(f"the catalogue's definition of {key} is not readable: {error}") from None
