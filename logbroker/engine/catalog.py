"""The catalogue: which topics there are, and what else must change in one write with them.

What lives here: the catalogue as a frozen value, pure changes to it, and its bytes on disk. What may not: I/O; the embedded
engine writes the bytes with one atomic replacement of ``catalog.json``, which is the commit point of every change.
Invariants: a topic id is never reused, so a directory (named after the id) belongs to one topic for ever; an id in
``deleted`` was a topic, and its directory may still have to go; a directory that is in neither list was made by a newer
catalogue than this one, which the engine refuses rather than guess (nothing may ever turn into an empty broker).

Bytes: one line ``{"format": 1, "crc32c": ...}``, then the body as JSON; the CRC covers the body.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import crc32c
import msgspec

from logbroker.errors import DataDirectoryError, TopicAlreadyExists, UnknownTopicOrPartition

FORMAT = 1


class TopicEntry(msgspec.Struct, frozen=True):
    """A topic as it stands in the catalogue; ``overrides`` are the settings given for it."""

    name: str
    id: UUID
    partitions: int
    overrides: dict[str, Any]
    created_ms: int
    owner: str | None = None


class _Head(msgspec.Struct):
    format: int
    crc32c: int


class _Body(msgspec.Struct):
    cluster_id: str
    next_producer_id: int
    topics: list[TopicEntry]
    deleted: list[UUID]
    definitions: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything the broker must know before it opens a log."""

    cluster_id: str
    topics: Mapping[str, TopicEntry] = field(default_factory=dict)
    deleted: frozenset[UUID] = frozenset()
    definitions: Mapping[str, Any] = field(default_factory=dict)
    """What stands on topics (``queue:orders``), as plain JSON; whoever defines it owns its form."""
    next_producer_id: int = 0

    def topic(self, name: str) -> TopicEntry:
        """The entry of a topic. Raises UnknownTopicOrPartition."""
        try:
            return self.topics[name]
        except KeyError:
            raise UnknownTopicOrPartition(f"there is no topic {name!r}", topic=name) from None

    def with_new(self, entry: TopicEntry) -> "Catalog":
        """With one more topic. Raises TopicAlreadyExists."""
        if entry.name in self.topics:
            raise TopicAlreadyExists(f"there is already a topic {entry.name!r}", topic=entry.name)
        return self._with_topic(entry)

    def with_overrides(self, name: str, overrides: Mapping[str, Any]) -> "Catalog":
        """With other settings for a topic. Raises UnknownTopicOrPartition."""
        return self._with_topic(msgspec.structs.replace(self.topic(name), overrides=dict(overrides)))

    def with_partitions(self, name: str, partitions: int) -> "Catalog":
        """With another number of partitions. Raises UnknownTopicOrPartition."""
        return self._with_topic(msgspec.structs.replace(self.topic(name), partitions=partitions))

    def without(self, name: str) -> "Catalog":
        """Without a topic, whose id is kept as deleted until its directory is gone. Raises UnknownTopicOrPartition."""
        gone = self.topic(name)
        remaining = {key: entry for key, entry in self.topics.items() if key != name}
        return dataclasses.replace(self, topics=remaining, deleted=self.deleted | {gone.id})

    def with_owner(self, name: str, owner: str | None) -> "Catalog":
        """With another owner of a topic. Raises UnknownTopicOrPartition."""
        return self._with_topic(msgspec.structs.replace(self.topic(name), owner=owner))

    def forgetting(self, gone: Set[UUID]) -> "Catalog":
        """Without the deleted ids whose directories are gone."""
        return dataclasses.replace(self, deleted=self.deleted - gone)

    def with_producer_ids_below(self, limit: int) -> "Catalog":
        """With every producer id below ``limit`` given out."""
        return dataclasses.replace(self, next_producer_id=limit)

    def with_definition(self, key: str, document: Any | None) -> "Catalog":
        """With ``document`` under ``key``, or without the key."""
        kept = {name: one for name, one in self.definitions.items() if name != key}
        return dataclasses.replace(self, definitions=kept if document is None else {**kept, key: document})

    def defining(
        self,
        key: str,
        document: Any | None,
        create: Iterable[TopicEntry] = (),
        adopt: Iterable[str] = (),
        delete: Iterable[str] = (),
    ) -> "Catalog":
        """With a definition and the topics it brings, takes over and ends. Raises as the single changes do."""
        catalog = self
        for name in delete:
            catalog = catalog.without(name)
        for entry in create:
            catalog = catalog.with_new(entry)
        for name in adopt:
            catalog = catalog.with_owner(name, key)
        if document is None:
            for entry in [entry for entry in catalog if entry.owner == key]:
                catalog = catalog.with_owner(entry.name, None)
        return catalog.with_definition(key, document)

    def _with_topic(self, entry: TopicEntry) -> "Catalog":
        return dataclasses.replace(self, topics={**self.topics, entry.name: entry})

    @property
    def partition_count(self) -> int:
        """Partitions of all topics together."""
        return sum(entry.partitions for entry in self.topics.values())

    def __iter__(self) -> Iterator[TopicEntry]:
        return (self.topics[name] for name in sorted(self.topics))


def encode_catalog(catalog: Catalog) -> bytes:
    """The bytes of ``catalog.json``."""
    body = msgspec.json.encode(
        _Body(
            catalog.cluster_id,
            catalog.next_producer_id,
            list(catalog),
            sorted(catalog.deleted),
            dict(catalog.definitions),
        )
    )
    return msgspec.json.encode(_Head(FORMAT, crc32c.crc32c(body))) + b"\n" + body + b"\n"


def decode_catalog(data: bytes) -> Catalog:
    """The catalogue in ``data``. Raises DataDirectoryError when it is damaged or of a newer format."""
    try:
        first, _, rest = data.partition(b"\n")
        head = msgspec.json.decode(first, type=_Head)
    except msgspec.MsgspecError:
        raise _damaged("its first line is not readable") from None
    if head.format > FORMAT:
        raise DataDirectoryError(
            f"the data directory has format {head.format}, this logbroker knows up to {FORMAT}: use a newer logbroker"
        )
    if head.format != FORMAT:
        raise _damaged(f"there is no format {head.format}")
    body = rest.removesuffix(b"\n")
    if crc32c.crc32c(body) != head.crc32c or len(rest) != len(body) + 1:
        raise _damaged("its checksum does not match")
    try:
        parsed = msgspec.json.decode(body, type=_Body)
    except msgspec.MsgspecError as error:
        raise _damaged(str(error)) from None
    return Catalog(
        parsed.cluster_id,
        {entry.name: entry for entry in parsed.topics},
        frozenset(parsed.deleted),
        parsed.definitions,
        parsed.next_producer_id,
    )


def _damaged(why: str) -> DataDirectoryError:
    return DataDirectoryError(f"catalog.json is damaged: {why}. Restore it from a backup; nothing was changed")
