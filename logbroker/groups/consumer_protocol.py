"""The words of protocol type "consumer": what members subscribe to and what they are assigned, as bytes.

What lives here: the codec of Kafka's ConsumerProtocolSubscription and ConsumerProtocolAssignment, versions 0 to 3. A group
carries these bytes without reading them; only who assigns on behalf of members, or shows assignments to people, decodes.

    subscription: version int16 | topics [string] | user data bytes?           0
                  | owned partitions [topic string, partitions [int32]]        1
                  | generation int32                                           2
                  | rack string?                                               3
    assignment:   version int16 | partitions [topic string, partitions [int32]] | user data bytes?

Lengths of strings are int16, of arrays and bytes int32, -1 is null; all big-endian. A reader takes a version above its own
for the last it knows and ignores what follows, as Kafka's clients do.
Invariant: decoding believes no length it has not checked, and raises nothing but ``InvalidRequest``.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from logbroker.errors import InvalidRequest
from logbroker.model import TopicPartition

_INT16 = struct.Struct(">h")
_INT32 = struct.Struct(">i")

SUBSCRIPTION_VERSION = 3
ASSIGNMENT_VERSION = 0
"""All versions have the same fields, and every client reads this one."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a member wants to read, and what it held in which generation when it joined."""

    topics: tuple[str, ...]
    owned: tuple[TopicPartition, ...] = ()
    generation: int = -1
    rack: str | None = None
    user_data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a member is to read."""

    partitions: tuple[TopicPartition, ...]
    user_data: bytes | None = None


def encode_subscription(subscription: Subscription) -> bytes:
    """The subscription in version 3."""
    parts = [_INT16.pack(SUBSCRIPTION_VERSION), _INT32.pack(len(subscription.topics))]
    parts.extend(_string(topic) for topic in subscription.topics)
    parts.append(_bytes(subscription.user_data))
    parts.extend(_partitions(subscription.owned))
    parts.append(_INT32.pack(subscription.generation))
    parts.append(_INT16.pack(-1) if subscription.rack is None else _string(subscription.rack))
    return b"".join(parts)


def decode_subscription(data: bytes) -> Subscription:
    """A subscription of any version. Raises InvalidRequest."""
    reader = _Reader(data)
    version = reader.int16()
    topics = tuple(reader.string() for _ in range(reader.length()))
    user_data = reader.nullable_bytes()
    owned = reader.partitions() if version >= 1 else ()
    generation = reader.int32() if version >= 2 else -1
    rack = reader.nullable_string() if version >= 3 else None
    return Subscription(topics, owned, generation, rack, user_data)


def encode_assignment(assignment: Assignment) -> bytes:
    """The assignment in version 0."""
    parts = [_INT16.pack(ASSIGNMENT_VERSION), *_partitions(assignment.partitions), _bytes(assignment.user_data)]
    return b"".join(parts)


def decode_assignment(data: bytes) -> Assignment:
    """An assignment of any version; no bytes at all assign nothing. Raises InvalidRequest."""
    if not data:
        return Assignment(())
    reader = _Reader(data)
    reader.int16()
    return Assignment(reader.partitions(), reader.nullable_bytes())


def subscribed_topics(metadata: bytes) -> tuple[str, ...] | None:
    """The topics of a subscription, or None if the bytes are not one."""
    try:
        return decode_subscription(metadata).topics
    except InvalidRequest:
        return None


def _string(text: str) -> bytes:
    data = text.encode()
    return _INT16.pack(len(data)) + data


def _bytes(data: bytes | None) -> bytes:
    return _INT32.pack(-1) if data is None else _INT32.pack(len(data)) + data


def _partitions(partitions: Iterable[TopicPartition]) -> Iterable[bytes]:
    topics = [(topic, [at.partition for at in group]) for topic, group in groupby(sorted(partitions), lambda at: at.topic)]
    yield _INT32.pack(len(topics))
    for topic, numbers in topics:
        yield _string(topic)
        yield struct.pack(f">i{len(numbers)}i", len(numbers), *numbers)


class _Reader:
    """Reads fields one after the other and refuses to run past the end."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if size < 0 or len(taken) < size:
            raise InvalidRequest(f"consumer protocol: {size} bytes expected at {self._at}, {len(taken)} are there")
        self._at += size
        return taken

    def int16(self) -> int:
        return int(_INT16.unpack(self.take(2))[0])

    def int32(self) -> int:
        return int(_INT32.unpack(self.take(4))[0])

    def length(self) -> int:
        """The length of an array; null is read as empty. Every element takes at least two bytes."""
        length = self.int32()
        if length * 2 > len(self._data) - self._at:
            raise InvalidRequest(f"consumer protocol: {length} elements cannot follow at {self._at}")
        return max(length, 0)

    def text(self, data: bytes) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"consumer protocol: no UTF-8 text before {self._at}") from None

    def string(self) -> str:
        return self.text(self.take(self.int16()))

    def nullable_string(self) -> str | None:
        length = self.int16()
        return None if length == -1 else self.text(self.take(length))

    def nullable_bytes(self) -> bytes | None:
        length = self.int32()
        return None if length == -1 else self.take(length)

    def partitions(self) -> tuple[TopicPartition, ...]:
        found: list[TopicPartition] = []
        for _ in range(self.length()):
            topic = self.string()
            found.extend(TopicPartition(topic, self.int32()) for _ in range(self.length()))
        return tuple(found)
