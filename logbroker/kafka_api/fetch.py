"""Fetch, v4 to v16: the hot path out.

Intended deviations: no fetch sessions (every request is whole); a partition gives its next batch even if that is larger
than the partition's limit, so that a small limit cannot starve it, as long as the limit of the whole request holds (the
first batch of a request may exceed both, KIP-74); replicas, racks and rack awareness do not exist.

What lives here: reading within the limits, and the long poll. What may not: layouts (``wire.fetch``), what is readable
(the engine's). Invariants: the batches go from the engine to the socket as they are; a fetch that has enough makes no task,
one that waits makes one; a partition that cannot be read answers its error at once, beside what the others give.
"""

import asyncio
import logging
from collections.abc import Iterator
from typing import Final, NamedTuple

from logbroker.broker.services import Services
from logbroker.engine.api import BatchesRead, Isolation, RawBatches, TopicInfo
from logbroker.errors import LogbrokerError, NotSupported, UnknownTopicOrPartition
from logbroker.kafka_api.answers import Answer, Context, Done, Reply
from logbroker.kafka_api.errors import Refused, code_of
from logbroker.metrics import Family
from logbroker.model import TopicPartition
from logbroker.wire.codes import ErrorCode
from logbroker.wire.fetch import (
    FetchRequest,
    PartitionFetch,
    PartitionFetched,
    TopicFetch,
    TopicFetched,
    decode_request,
    encode_response,
)
from logbroker.wire.primitives import Buffer

log = logging.getLogger("logbroker.kafka")

MAX_BYTES: Final = 55 * 1024 * 1024
"""The most bytes of one response, but for a single larger batch (Kafka's fetch.max.bytes)."""
_FULL_EPOCHS: Final = (-1, 0)
_TOPIC_IDS_FROM: Final = 13
_LEADER_EPOCH: Final = 0
_GATHER_S: Final = 0.005
"""How long a fetch that wants many bytes lets them gather between two looks."""


class Wanted(NamedTuple):
    """One partition of a request, looked up. ``error`` if it cannot be."""

    where: TopicPartition
    fetch: PartitionFetch
    error: LogbrokerError | None


class Fetch:
    """The handler. It is made once per door, so that counters are looked up once."""

    def __init__(self, services: Services) -> None:
        if services.engine.raw is None:
            raise NotSupported("the Kafka door needs an engine that gives record batches as bytes")
        self._raw: RawBatches = services.engine.raw
        self._bytes_out: Family = services.metrics.counter(
            "topic_bytes_out_total", "Bytes of keys and values read.", ("topic",)
        )

    def __call__(self, services: Services, body: memoryview, context: Context) -> Answer:
        """Serve one request."""
        request = decode_request(context.version, body)
        if request.session_epoch not in _FULL_EPOCHS:
            code = ErrorCode.FETCH_SESSION_ID_NOT_FOUND
            return Reply(encode_response(context.version, [], code), code)
        attempt = Attempt(self._raw, services, request, context.version)
        return self.reply(attempt) if attempt.read() and attempt.is_enough else Parked(self, attempt)

    def reply(self, attempt: "Attempt") -> Reply:
        """The reply with what the attempt has read."""
        topics, code = attempt.outcome()
        for topic, size in attempt.sizes.items():
            self._bytes_out.add(size, topic)
        return Reply(encode_response(attempt.version, topics), code)


def refuse(body: memoryview, context: Context, error: Exception) -> Reply:
    """Say of every partition that it failed. Raises InvalidRequest."""
    request = decode_request(context.version, body)
    code = code_of(error)
    topics = [
        TopicFetched(topic.name, topic.id, [PartitionFetched(one.partition, code) for one in topic.partitions])
        for topic in request.topics
    ]
    return Reply(encode_response(context.version, topics), code)


class Attempt:
    """One look at everything a request wants; a long poll looks again until it has enough."""

    def __init__(self, raw: RawBatches, services: Services, request: FetchRequest, version: int) -> None:
        self.services = services
        self.request = request
        self.version = version
        self.sizes: dict[str, int] = {}
        self._raw = raw
        self.isolation = Isolation.READ_COMMITTED if request.isolation else Isolation.READ_UNCOMMITTED
        self._max_bytes = services.in_flight.grant(min(request.max_bytes, MAX_BYTES))
        self._topics = [(topic, list(_look_up(services, topic, version))) for topic in request.topics]
        self._reset()

    def _reset(self) -> None:
        self._read: dict[int, BatchesRead | Exception] = {}
        self._size = 0
        self._failed = False
        self.sizes.clear()

    @property
    def is_enough(self) -> bool:
        """Whether the client should be answered now, whatever time it gave."""
        least = min(self.request.min_bytes, self._max_bytes)
        return self._size >= least or self._failed or not self._topics or self.request.max_wait_ms <= 0

    @property
    def wants_many_bytes(self) -> bool:
        """Whether a single new record will often not be enough."""
        return self.request.min_bytes > 1

    def positions(self) -> dict[TopicPartition, int]:
        """Past where something new has to come for another look to be worth it."""
        positions = {}
        for number, wanted in self._numbered():
            found = self._read.get(number)
            if isinstance(found, BatchesRead):
                positions[wanted.where] = self.isolation.end(found.bounds)
        return positions

    def read(self) -> bool:
        """Look at every partition; False if some need the disk (then ``read_cold``)."""
        self._reset()
        return all(self._read_one(number, wanted) for number, wanted in self._numbered())

    async def read_cold(self) -> None:
        """As ``read``, waiting for the disk where needed."""
        self._reset()
        for number, wanted in self._numbered():
            if not self._read_one(number, wanted):
                _, fetch, _ = wanted
                try:
                    found = await self._raw.read_cold(wanted.where, fetch.offset, self._limit(fetch), self.isolation)
                except Exception as error:
                    self._fail(number, error)
                else:
                    self._take(number, wanted, found)

    def _numbered(self) -> Iterator[tuple[int, Wanted]]:
        return enumerate(wanted for _, partitions in self._topics for wanted in partitions)

    def _limit(self, fetch: PartitionFetch) -> int:
        return max(0, min(fetch.max_bytes, self._max_bytes - self._size))

    def _read_one(self, number: int, wanted: Wanted) -> bool:
        where, fetch, error = wanted
        if error is not None:
            self._fail(number, error)
            return True
        try:
            found = self._raw.read(where, fetch.offset, self._limit(fetch), self.isolation)
        except Exception as failure:
            self._fail(number, failure)
            return True
        if found is None:
            return False
        self._take(number, wanted, found)
        return True

    def _fail(self, number: int, error: Exception) -> None:
        if not isinstance(error, LogbrokerError):
            log.error("a fetch failed", exc_info=error)
        self._failed = True
        self._read[number] = error

    def _take(self, number: int, wanted: Wanted, found: BatchesRead) -> None:
        size = sum(map(len, found.chunks))
        if size and self._size and self._size + size > self._max_bytes:
            found, size = found._replace(chunks=[]), 0
        self._read[number] = found
        if size:
            self._size += size
            self.sizes[wanted.where.topic] = self.sizes.get(wanted.where.topic, 0) + size

    def outcome(self) -> tuple[list[TopicFetched], ErrorCode]:
        """What was read, for the response, and the first error in it."""
        topics = []
        number = 0
        first_error = ErrorCode.NONE
        for topic, partitions in self._topics:
            fetched = []
            for wanted in partitions:
                one = self._fetched(wanted, self._read[number])
                fetched.append(one)
                number += 1
                if one.error_code and first_error is ErrorCode.NONE:
                    first_error = ErrorCode(one.error_code)
            topics.append(TopicFetched(topic.name, topic.id, fetched))
        return topics, first_error

    def _fetched(self, wanted: Wanted, found: BatchesRead | Exception) -> PartitionFetched:
        partition = wanted.fetch.partition
        if isinstance(found, Exception):
            return PartitionFetched(partition, code_of(found))
        bounds = found.bounds
        records: list[Buffer] = found.chunks
        aborted = found.aborted if self.isolation is Isolation.READ_COMMITTED else None
        return PartitionFetched(
            partition, 0, bounds.high_watermark, bounds.last_stable_offset, bounds.log_start_offset, records, aborted
        )


class Parked:
    """A fetch that waits: for the disk, or until enough has come or its time is up."""

    __slots__ = ("_attempt", "_closing", "_fetch", "_task", "_timeout")

    blocks = True

    def __init__(self, fetch: Fetch, attempt: Attempt) -> None:
        self._fetch = fetch
        self._attempt = attempt
        self._task: asyncio.Task[None] | None = None
        self._timeout: asyncio.Timeout | None = None
        self._closing = attempt.services.lifecycle.closing.is_set()

    def then(self, done: Done) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(done))

    def hasten(self) -> None:
        self._closing = True
        if self._timeout is not None:
            self._timeout.reschedule(asyncio.get_running_loop().time())

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self, done: Done) -> None:
        waiting = self._attempt.services.waiting
        waiting.count += 1
        try:
            await self._collect()
            reply = self._fetch.reply(self._attempt)
        except Exception:
            log.exception("a fetch that waited failed")
            code = ErrorCode.UNKNOWN_SERVER_ERROR
            reply = Reply(encode_response(self._attempt.version, [], code), code)
        finally:
            waiting.count -= 1
        done(reply)

    async def _collect(self) -> None:
        attempt = self._attempt
        deadline = asyncio.get_running_loop().time() + attempt.request.max_wait_ms / 1000
        expired = False
        await self._look()
        while not (attempt.is_enough or self._closing or expired):
            expired = not await self._changed(deadline)
            if not expired or attempt.wants_many_bytes:
                await self._look()

    async def _look(self) -> None:
        if not self._attempt.read():
            await self._attempt.read_cold()

    async def _changed(self, deadline: float) -> bool:
        """Whether something has come before the deadline, and was given time to gather where much is wanted."""
        attempt = self._attempt
        try:
            async with asyncio.timeout_at(deadline) as self._timeout:
                await attempt.services.engine.changed(attempt.positions(), attempt.isolation)
                if attempt.wants_many_bytes:
                    await asyncio.sleep(_GATHER_S)
        except TimeoutError:
            return False
        finally:
            self._timeout = None
        return True


def _look_up(services: Services, topic: TopicFetch, version: int) -> Iterator[Wanted]:
    info: TopicInfo | None = None
    error: LogbrokerError | None = None
    try:
        info = services.engine.topic_by_id(topic.id) if version >= _TOPIC_IDS_FROM else services.engine.topic(topic.name)
    except UnknownTopicOrPartition as unknown:
        error = unknown
        if version >= _TOPIC_IDS_FROM:
            error = Refused(ErrorCode.UNKNOWN_TOPIC_ID, f"there is no topic with id {topic.id}")
    for fetch in topic.partitions:
        where = TopicPartition(info.name if info is not None else topic.name, fetch.partition)
        yield Wanted(where, fetch, error or _epoch_refusal(fetch))


def _epoch_refusal(fetch: PartitionFetch) -> LogbrokerError | None:
    if fetch.current_leader_epoch > _LEADER_EPOCH:
        return Refused(ErrorCode.UNKNOWN_LEADER_EPOCH, f"the leader epoch is {_LEADER_EPOCH}")
    return None
