"""``Client(url)``: the synchronous client.

What lives here: what hangs where. Subscriptions and services get objects of their own beside ``queue``, over the same
driver.
"""

from collections.abc import Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from logbroker.claims.reference import Claim, verified
from logbroker.client.blocking.consumer import Consumer
from logbroker.client.blocking.dead_letters import Operations
from logbroker.client.blocking.driver import Carrier, Driver
from logbroker.client.blocking.http import HttpCarrier
from logbroker.client.blocking.producer import Claiming, Producer
from logbroker.client.blocking.queue import Queue
from logbroker.client.blocking.queues import Queues
from logbroker.client.blocking.subscription import Subscription, Subscriptions
from logbroker.client.blocking.topics import Topics
from logbroker.client.calls.groups import Reset
from logbroker.client.calls.objects import GetObject, PutObject
from logbroker.client.calls.records import Record
from logbroker.client.calls.services import Ask, Reply
from logbroker.client.calls.subscriptions import SubscriptionInfo
from logbroker.client.declaring import declare_subscription
from logbroker.client.durations import Duration, to_ms
from logbroker.client.flows import Flow
from logbroker.client.membership import CommitMode, Membership
from logbroker.client.own_stores import NO_STORES, OwnStores
from logbroker.client.payloads import HeadersGiven, Key, Payload, record_of
from logbroker.client.positions import Start
from logbroker.client.reading import TopicReader
from logbroker.client.settling import default_consumer

T = TypeVar("T")


class SyncClient:
    """A broker, as a client sees it. Use it as a context; leaving it closes producers and consumers that are open."""

    def __init__(self, carrier: Carrier, stores: Mapping[str, str] = NO_STORES) -> None:
        self._driver = Driver(carrier)
        self._own = OwnStores(stores)
        self.topics = Topics(self._driver)
        self.queues = Queues(self._driver)
        self.subscriptions = Subscriptions(self._driver)
        self.operations = Operations(self._driver)

    def __enter__(self) -> Self:
        self._driver.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open, and the client."""
        self._driver.close()

    def producer(
        self, topic: str, *, idempotent: bool = False, linger: Duration = 0, claim_above: int | None = None
    ) -> Producer:
        """A producer, to be entered. ``linger``: how long a record waits for others to go with.

        ``idempotent``: each record is written once although requests are repeated. With ``claim_above``, what
        ``send`` is given and is larger than so many bytes goes to the store ``local``, and a claim in its place.
        """
        claiming = None if claim_above is None else Claiming(claim_above, self.claim)
        return Producer(self._driver, topic, idempotent=idempotent, linger=linger, claiming=claiming)

    def read(
        self,
        topic: str,
        *,
        start: Start = "earliest",
        follow: bool = False,
        filter: str | None = None,
        partitions: Sequence[int] | None = None,
    ) -> Generator[Record, None, None]:
        """The records of a topic, without a group: up to its present end, or with ``follow`` as they come.

        Each partition is in order. Raises UnknownTopicOrPartition, OffsetOutOfRange, InvalidOffset.
        """
        reader = TopicReader(topic, start, follow=follow, filter=filter, partitions=partitions)
        while (records := self._driver.run(reader.more())) is not None:
            yield from records

    def consumer(
        self,
        topic: str | Sequence[str],
        *,
        group: str,
        start: Reset = "latest",
        commit: CommitMode = "after",
        session_timeout: Duration = "45s",
    ) -> Consumer:
        """A member of a consumer group, to be entered. ``start``: where to begin what the group has not committed for.

        A member that was not heard of for ``session_timeout`` loses its partitions; heartbeats go by themselves.
        """
        topics = [topic] if isinstance(topic, str) else list(topic)
        timeout_ms = to_ms(session_timeout)
        membership = Membership(topics, group, start, commits=commit == "after", session_timeout_ms=timeout_ms)
        return Consumer(self._driver, membership)

    @overload
    def request(
        self, service: str, value: object, *, timeout: Duration = ..., key: Key = ..., headers: HeadersGiven = ...
    ) -> Reply: ...

    @overload
    def request(
        self,
        service: str,
        value: object,
        *,
        timeout: Duration = ...,
        key: Key = ...,
        headers: HeadersGiven = ...,
        type: type[T],
    ) -> T: ...

    def request(
        self,
        service: str,
        value: object,
        *,
        timeout: Duration = "30s",
        key: Key = None,
        headers: HeadersGiven = (),
        type: Any = None,
    ) -> Any:
        """Ask a service, and wait for its answer, whose value is parsed as ``type`` where one is given.

        Raises NoResponders at once when nobody listens, RequestTimeout, RemoteError with what went wrong over there.
        """
        reply = self._driver(Ask(service, record_of(value, key, headers), to_ms(timeout)))
        return reply if type is None else reply.json(type)

    def claim(self, payload: bytes, *, store: str = "local") -> Claim:
        """Keep a payload in a store; what is returned is sent in its place, as a value of a record or message.

        A store that this client was given (``stores``) is written by itself, any other by the broker. Raises StoreNotFound,
        MessageTooLarge, StorageError.
        """
        own = self._own.get(store)
        if own is None:
            return self._driver(PutObject(store, payload))
        return own.put(payload, len(payload))

    def payload(self, record: Payload) -> bytes | None:
        """The value of a record or message, fetched from its store where it is kept in one, and checked.

        Raises ClaimInvalid, StoreNotFound, ObjectNotFound, ObjectAltered.
        """
        claim = record.claim
        if claim is None:
            return record.value
        own = self._own.get(claim.store)
        if own is None:
            return verified(claim, self._driver(GetObject(claim.store, claim.id)))
        return own.load(claim)

    def subscription(
        self,
        topic: str,
        *,
        name: str,
        filter: str | None = None,
        start: Start | None = None,
        **settings: Any,
    ) -> Subscription:
        """One subscription over a topic. The broker is asked for nothing yet; arguments as of ``subscriptions.create``."""
        declared = {**settings, **({} if filter is None else {"filter": filter})}

        def declare() -> Flow[SubscriptionInfo]:
            return declare_subscription(name, topic, start, declared)

        return Subscription(self._driver, name, default_consumer(), declare)

    def queue(self, name: str) -> Queue:
        """One queue. The broker is asked for nothing yet."""
        return Queue(self._driver, name, default_consumer())


class Client(SyncClient):
    """A client of the broker at ``url``, to be entered: ``with Client(url) as lb``.

    ``timeout`` bounds each answer, on top of what the broker was asked to wait. ``stores`` says where large payloads are
    that this client reaches by itself, by the names of their stores; all others it asks the broker for. Raises
    InvalidRequest.
    """

    def __init__(self, url: str, *, timeout: Duration = "30s", stores: Mapping[str, str] = NO_STORES) -> None:
        super().__init__(HttpCarrier(url, to_ms(timeout) / 1_000), stores)
