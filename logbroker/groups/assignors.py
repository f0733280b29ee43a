"""Who reads which partition: the assignors that the broker runs, for members over HTTP and for consumer groups (KIP-848).

What lives here: pure functions from subscriptions and partition counts to assignments, under the names that Kafka's clients
use, so that members of both doors can share a group whoever leads it, and under those that Kafka's brokers use. What may
not: members, generations, bytes.
Invariants: every partition of a subscribed topic goes to exactly one member that is subscribed to it (cooperative: to at
most one, until its former owner has let go); equal input gives equal output, in whatever order it comes.
"""

from bisect import insort
from collections.abc import Callable, Mapping
from typing import TypeAlias

from sortedcontainers import SortedList

from logbroker.errors import InvalidRequest
from logbroker.groups.consumer_protocol import Subscription
from logbroker.model import TopicPartition

Subscriptions: TypeAlias = Mapping[str, Subscription]
"""What each member wants to read, by member id."""
PartitionCounts: TypeAlias = Mapping[str, int]
"""The number of partitions of each topic that exists."""
Assignments: TypeAlias = dict[str, set[TopicPartition]]
Assignor: TypeAlias = Callable[[Subscriptions, PartitionCounts], Assignments]


def assign(name: str, subscriptions: Subscriptions, counts: PartitionCounts) -> Assignments:
    """The assignment by the assignor of that name. Raises InvalidRequest for a name not in ``ASSIGNORS``."""
    assignor = ASSIGNORS.get(name)
    if assignor is None:
        raise InvalidRequest(f"there is no assignor {name!r}; there are: {', '.join(ASSIGNORS)}")
    return assignor(subscriptions, counts)


def assign_range(subscriptions: Subscriptions, counts: PartitionCounts) -> Assignments:
    """Each topic in contiguous ranges, the first members getting one more."""
    assignments: Assignments = {member: set() for member in subscriptions}
    for topic, count in sorted(counts.items()):
        readers = _readers(topic, subscriptions)
        first = 0
        for place, member in enumerate(readers):
            size = count // len(readers) + (place < count % len(readers))
            assignments[member].update(TopicPartition(topic, number) for number in range(first, first + size))
            first += size
    return assignments


def assign_round_robin(subscriptions: Subscriptions, counts: PartitionCounts) -> Assignments:
    """One partition after the other to one member after the other, past those that are not subscribed."""
    assignments: Assignments = {member: set() for member in subscriptions}
    members = sorted(subscriptions)
    turn = 0
    for at in _all_partitions(subscriptions, counts):
        while at.topic not in subscriptions[members[turn % len(members)]].topics:
            turn += 1
        assignments[members[turn % len(members)]].add(at)
        turn += 1
    return assignments


def assign_sticky(subscriptions: Subscriptions, counts: PartitionCounts) -> Assignments:
    """As even as subscriptions allow, with as few partitions as possible changing hands."""
    owners = _owners(subscriptions, counts)
    table = _Table(subscriptions)
    for at in _all_partitions(subscriptions, counts):
        owner = owners.get(at)
        if owner is not None:
            table.give(at, owner)
    for at in _all_partitions(subscriptions, counts):
        if at not in owners:
            table.give_to_least_loaded(at)
    table.balance()
    return table.assignments


def assign_cooperative(subscriptions: Subscriptions, counts: PartitionCounts) -> Assignments:
    """As sticky, but a partition that changes hands stays unassigned until its owner let go and rejoined (KIP-429)."""
    owners = _owners(subscriptions, counts)
    wanted = assign_sticky(subscriptions, counts)
    return {member: {at for at in partitions if owners.get(at, member) == member} for member, partitions in wanted.items()}


ASSIGNORS: Mapping[str, Assignor] = {
    "range": assign_range,
    "roundrobin": assign_round_robin,
    "sticky": assign_sticky,
    "cooperative-sticky": assign_cooperative,
}

SERVER_ASSIGNORS: Mapping[str, Assignor] = {"uniform": assign_sticky, "range": assign_range}
"""Those of consumer groups, the default first. What a member owns by its subscription is its last target there."""


def _readers(topic: str, subscriptions: Subscriptions) -> list[str]:
    return sorted(member for member, subscription in subscriptions.items() if topic in subscription.topics)


def _all_partitions(subscriptions: Subscriptions, counts: PartitionCounts) -> list[TopicPartition]:
    """All partitions that somebody is subscribed to, in order."""
    topics = {topic for subscription in subscriptions.values() for topic in subscription.topics}
    return [TopicPartition(topic, n) for topic in sorted(topics) for n in range(counts.get(topic, 0))]


def _owners(subscriptions: Subscriptions, counts: PartitionCounts) -> dict[TopicPartition, str]:
    """Who holds what by its own word. Of two that claim a partition, the one with the later generation is right."""
    owners: dict[TopicPartition, str] = {}
    for member in sorted(subscriptions):
        subscription = subscriptions[member]
        for at in subscription.owned:
            if at.topic not in subscription.topics or at.partition >= counts.get(at.topic, 0):
                continue
            rival = owners.get(at)
            if rival is None or subscriptions[rival].generation < subscription.generation:
                owners[at] = member
    return owners


class _Table:
    """Assignments in the making, with the members ordered by how much they have.

    Who could take a partition over depends on its topic alone, so looking for a move costs topics, not partitions.
    """

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._topics = {member: set(subscription.topics) for member, subscription in subscriptions.items()}
        self._held: dict[str, dict[str, list[int]]] = {member: {} for member in subscriptions}
        """By member and topic, partition numbers ascending."""
        self._loads = dict.fromkeys(subscriptions, 0)
        self._by_load: SortedList[tuple[int, str]] = SortedList((0, member) for member in subscriptions)

    @property
    def assignments(self) -> Assignments:
        return {
            member: {TopicPartition(topic, number) for topic, numbers in held.items() for number in numbers}
            for member, held in self._held.items()
        }

    def give(self, at: TopicPartition, member: str) -> None:
        insort(self._held[member].setdefault(at.topic, []), at.partition)
        self._change_load(member, 1)

    def give_to_least_loaded(self, at: TopicPartition) -> None:
        """Every partition in hand has a subscriber, so there is one."""
        self.give(at, next(member for _, member in self._by_load if at.topic in self._topics[member]))

    def balance(self) -> None:
        """Move partitions from who has most to who has least, while that makes a difference of two smaller."""
        while self._move_one():
            pass

    def _move_one(self) -> bool:
        for load, giver in reversed(self._by_load):
            if load - self._by_load[0][0] < 2:
                return False
            held = self._held[giver]
            for topic in sorted((topic for topic, numbers in held.items() if numbers), reverse=True):
                taker = self._least_loaded_below(load - 1, topic)
                if taker is not None:
                    number = held[topic].pop()
                    self._change_load(giver, -1)
                    self.give(TopicPartition(topic, number), taker)
                    return True
        return False

    def _least_loaded_below(self, limit: int, topic: str) -> str | None:
        for load, member in self._by_load:
            if load >= limit:
                return None
            if topic in self._topics[member]:
                return member
        return None

    def _change_load(self, member: str, by: int) -> None:
        load = self._loads[member]
        self._loads[member] = load + by
        self._by_load.remove((load, member))
        self._by_load.add((load + by, member))
