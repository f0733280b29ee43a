"""Drives a group through the consumer protocol by hand, with honest clients and topics that the test changes."""

from dataclasses import dataclass, field
from uuid import UUID

from logbroker.errors import LogbrokerError
from logbroker.groups import messages as m
from logbroker.groups.consumer_events import TopicFacts
from logbroker.groups.consumer_messages import Beaten, ConsumerHeartbeat
from logbroker.groups.consumer_state import ConsumerState
from logbroker.groups.patterns import names_matching
from logbroker.model import TopicPartition
from tests.groups.driver import GroupDriver, first_code

Partitions = frozenset[TopicPartition]
NONE: Partitions = frozenset()
HOST, CLIENT = "host", "client"


class FakeCatalogue:
    """Topics by name; one that is made anew has a new id."""

    def __init__(self, **topics: int) -> None:
        self.topics: dict[str, TopicFacts] = {}
        self._made = 0
        for name, partitions in topics.items():
            self.create(name, partitions)

    def create(self, name: str, partitions: int) -> None:
        self._made += 1
        self.topics[name] = TopicFacts(UUID(int=self._made), partitions)

    def grow(self, name: str, partitions: int) -> None:
        self.topics[name] = TopicFacts(self.topics[name].id, partitions)

    def facts(self, topic: str) -> TopicFacts | None:
        return self.topics.get(topic)

    def matching(self, pattern: str) -> frozenset[str]:
        return names_matching(pattern, self.topics)


@dataclass
class Client:
    """What a client knows of itself. It reads what it was told to at once, and lets go of what it lost when it is told."""

    member_id: str
    topics: tuple[str, ...] = ("orders",)
    pattern: str | None = None
    instance_id: str | None = None
    assignor: str | None = None
    epoch: int = 0
    reading: Partitions = NONE
    told: Partitions = NONE
    must_say_all: bool = field(default=True)

    def let_go(self) -> None:
        """Stop reading what it was told to give up."""
        self.reading = self.reading & self.told


class ConsumerDriver(GroupDriver):
    """A group of the consumer protocol."""

    def __init__(self, limits: m.GroupLimits | None = None, **topics: int) -> None:
        super().__init__(limits)
        self.topics = self.catalogue = FakeCatalogue(**(topics or {"orders": 6}))

    @property
    def consumers(self) -> ConsumerState:
        state = self.group.hard.consumer
        assert state is not None
        return state

    def say(self, member_id: str, epoch: int, **said: object) -> Beaten | LogbrokerError:
        """One heartbeat, word by word."""
        command = ConsumerHeartbeat(
            member_id=member_id,
            epoch=epoch,
            client_id=CLIENT,
            client_host=HOST,
            catalogue=self.topics,
            **said,  # type: ignore[arg-type]  # fields of ConsumerHeartbeat
        )
        reply = self.send(command)
        assert isinstance(reply, Beaten | LogbrokerError)
        return reply

    def beat_as(self, client: Client, *, lost: bool = False, rebalance_ms: int = 60_000) -> str:
        """A heartbeat of an honest client; 'ok' or the error code. ``lost``: the answer never arrives."""
        wish: dict[str, object] = {}
        if client.must_say_all:
            wish = {"topics": client.topics, "pattern": client.pattern, "rebalance_timeout_ms": rebalance_ms}
            wish["assignor"] = client.assignor
        reply = self.say(client.member_id, client.epoch, instance_id=client.instance_id, owned=client.reading, **wish)
        if lost:
            client.must_say_all = True
            return "lost"
        if isinstance(reply, LogbrokerError):
            return reply.code
        client.must_say_all = False
        client.epoch = reply.epoch
        if reply.assignment is not None:
            client.told = frozenset(reply.assignment)
            client.reading = client.reading | client.told
        return "ok"

    def join_as(self, member_id: str, **wish: object) -> Client:
        """A client that has joined."""
        client = Client(member_id, **wish)  # type: ignore[arg-type]  # fields of Client
        assert self.beat_as(client) == "ok"
        return client

    def begin_anew(self, client: Client) -> str:
        """What a client does when it was fenced."""
        client.epoch, client.reading, client.told, client.must_say_all = 0, NONE, NONE, True
        return self.beat_as(client)

    def leave_as(self, client: Client, epoch: int = -1) -> str:
        client.reading = client.told = NONE
        reply = self.say(client.member_id, epoch, instance_id=client.instance_id)
        return reply.code if isinstance(reply, LogbrokerError) else "ok"

    def settle_all(self, *clients: Client, rounds: int = 4) -> None:
        """Let everybody heartbeat and let go until nothing changes."""
        for _ in range(rounds):
            for client in clients:
                assert self.beat_as(client) == "ok"
                client.let_go()

    def commit_as(self, client: Client, at: TopicPartition, offset: int = 1, epoch: int | None = None) -> str:
        claim = m.MemberClaim(client.member_id, client.epoch if epoch is None else epoch, client.instance_id)
        return first_code(self.send(m.CommitOffsets(claim, (m.OffsetToCommit(at, offset),), may_go_back=True)))


def orders(*numbers: int) -> Partitions:
    """Partitions of the topic orders."""
    return frozenset(TopicPartition("orders", number) for number in numbers)
