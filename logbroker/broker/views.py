"""What queues and subscriptions have in common as the broker's own: their names, and the life of their dispatchers.

What lives here: loading, finding, pausing and ending views of topics of one kind. What may not: how one is declared (each
kind's own), HTTP words, messages.
Invariants: queues and subscriptions share one name space; a view is served only when it has loaded, and one that cannot be
loaded answers its error without keeping the others from being served.
"""

import asyncio
import contextlib
import logging
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from logbroker.broker.topics import Topics, check_changeable, check_topic_name
from logbroker.engine.api import Engine, TopicInfo
from logbroker.errors import (
    ConfigConflict,
    InvalidConfig,
    InvalidTopic,
    LogbrokerError,
    PreconditionFailed,
    UnknownTopicOrPartition,
)
from logbroker.model import TopicPartition
from logbroker.queues.dispatcher import Dispatcher, View
from logbroker.queues.dispatcher.definition import definition_of

log = logging.getLogger(__name__)

MAX_NAME = 243
"""So that ``.retry`` fits behind it."""
INCARNATION_BITS = 48

D = TypeVar("D", bound=Dispatcher)
S = TypeVar("S", bound=msgspec.Struct)


class NameSpace:
    """The names of all views, and the lock under which they come and go."""

    def __init__(self) -> None:
        self.changing = asyncio.Lock()
        self._kinds: list[Views[Any]] = []

    def join(self, kind: "Views[Any]") -> None:
        """Share the names."""
        self._kinds.append(kind)

    def find(self, name: str) -> Dispatcher:
        """The view of that name, of whatever kind. Raises what its kind does, as QueueNotFound where there is none."""
        kind = next((kind for kind in self._kinds if name in kind), self._kinds[0])
        dispatcher: Dispatcher = kind.get(name)
        return dispatcher

    def check_free(self, name: str) -> None:
        """Raise InvalidTopic, TopicReserved or ConfigConflict unless a view may be made of that name."""
        check_changeable(name)
        _check_length(name)
        for kind in self._kinds:
            if name in kind:
                raise ConfigConflict(
                    f"there is a {kind.KIND.KIND} {name!r}: queues and subscriptions share one name space", name=name
                )


class Views(ABC, Generic[D]):
    """The views of one kind. To be started before a door opens."""

    KIND: type[View]

    def __init__(self, engine: Engine, topics: Topics, names: NameSpace) -> None:
        self._engine = engine
        self._topics = topics
        self._names = names
        self._dispatchers: dict[str, D] = {}
        self._damaged: dict[str, tuple[View, LogbrokerError]] = {}
        names.join(self)

    @abstractmethod
    def _dispatcher(self, definition: View) -> D:
        """A dispatcher that is not started yet."""

    @abstractmethod
    def _missing(self, name: str) -> LogbrokerError:
        """What there is to say where there is none of that name."""

    @abstractmethod
    def tag_of(self, dispatcher: D) -> str:
        """The entity tag of a declaration."""

    # -- life ------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load all. Raises DataDirectoryError for a definition of a newer logbroker."""
        prefix = f"{self.KIND.KIND}:"
        definitions = [
            definition_of(key, document, self.KIND)
            for key, document in self._engine.definitions().items()
            if key.startswith(prefix)
        ]
        await asyncio.gather(*(self._load(definition) for definition in definitions))

    async def _load(self, definition: View) -> D | None:
        dispatcher: D | None = None
        try:
            dispatcher = self._dispatcher(definition)
            await dispatcher.start()
        except LogbrokerError as error:
            log.error("%s cannot be loaded: %s: %s", definition.key, error.code, error)
            self._damaged[definition.name] = definition, error
            if dispatcher is not None:
                await dispatcher.close()
            self._hold_all(definition, 0)  # nobody knows what it has done
            return None
        self._dispatchers[definition.name] = dispatcher
        return dispatcher

    def _hold_all(self, definition: View, offset: int | None) -> None:
        topic = self._find_topic(definition.topic)
        for number in range(0 if topic is None else topic.partitions):
            with contextlib.suppress(LogbrokerError):  # a damaged partition is not deleted from anyway
                self._engine.hold(TopicPartition(definition.topic, number), definition.key, offset)

    async def _loaded(self, definition: View) -> D:
        """A view that was made just now. Raises what it cannot be loaded for."""
        dispatcher = await self._load(definition)
        if dispatcher is None:
            raise self._damaged[definition.name][1]
        return dispatcher

    def end_waiting(self) -> None:
        """Answer all long polls now."""
        for dispatcher in self._dispatchers.values():
            dispatcher.end_waiting()

    async def stop(self) -> None:
        """Stop all dispatchers; what they have answered is durable."""
        await asyncio.gather(*(dispatcher.close() for dispatcher in self._dispatchers.values()))
        self._dispatchers.clear()

    async def tell(self, every_s: float) -> None:
        """Log the counts of each again and again; never returns."""
        kind = self.KIND.KIND
        while True:
            await asyncio.sleep(every_s)
            for dispatcher in self.list():
                name = dispatcher.definition.name
                facts = {**(await dispatcher.size.counts())._asdict(), **dispatcher.tally.totals}
                told = ", ".join(f"{fact} {count}" for fact, count in facts.items() if count) or "nothing yet"
                log.info("%s %s: %s", kind, name, told, extra={kind: name, **facts})

    # -- looking ---------------------------------------------------------------------------------------------------------

    def __contains__(self, name: str) -> bool:
        return name in self._dispatchers or name in self._damaged

    def get(self, name: str) -> D:
        """The view. Raises InvalidTopic, the kind's not-found error, and what it could not be loaded for."""
        dispatcher = self._dispatchers.get(name)
        if dispatcher is not None:
            return dispatcher
        if name in self._damaged:
            raise self._damaged[name][1]
        check_topic_name(name)
        _check_length(name)
        raise self._missing(name)

    def list(self, prefix: str = "") -> list[D]:
        """Those whose names start with ``prefix``, by name."""
        return [self._dispatchers[name] for name in sorted(self._dispatchers) if name.startswith(prefix)]

    def definitions(self) -> Iterator[View]:
        """The definitions of all, also of those that could not be loaded."""
        yield from (dispatcher.definition for dispatcher in self._dispatchers.values())
        yield from (definition for definition, _ in self._damaged.values())

    def _find_topic(self, name: str) -> TopicInfo | None:
        try:
            return self._engine.topic(name)
        except UnknownTopicOrPartition:
            return None

    # -- changing --------------------------------------------------------------------------------------------------------

    def _check_tag(self, dispatcher: D, tag: str | None) -> None:
        if tag not in (None, "*") and tag != self.tag_of(dispatcher):
            key = dispatcher.definition.key
            raise PreconditionFailed(f"{key} was changed since: its tag is {self.tag_of(dispatcher)}")

    async def _redefine(self, dispatcher: D, definition: View) -> None:
        await self._engine.define(definition.key, definition.to_json())
        await dispatcher.configure(definition)

    async def _ended(self, name: str, tag: str | None) -> View:
        """Stop serving one, also one that could not be loaded."""
        if name in self._damaged:
            definition = self._damaged.pop(name)[0]
            self._hold_all(definition, None)
            return definition
        dispatcher = self.get(name)
        self._check_tag(dispatcher, tag)
        del self._dispatchers[name]
        await dispatcher.close()
        dispatcher.release_holds()
        return dispatcher.definition

    async def _removed(self, definition: View, *topics: str) -> None:
        """Take a view that is served no more out of the catalogue, with its own topics and ``topics``."""
        own = (definition.journal.topic, definition.retry, definition.dead, *topics)
        there = [topic for topic in own if self._find_topic(topic) is not None]
        try:
            await self._engine.define(definition.key, None, delete=there)
        except LogbrokerError:
            await self._load(definition)  # nothing was deleted: it is served as before
            raise


def _check_length(name: str) -> None:
    if len(name) > MAX_NAME:
        raise InvalidTopic(
            f"the name of a queue or subscription takes at most {MAX_NAME} characters, so that '.retry' fits behind it"
        )


def hash_of(settings: msgspec.Struct) -> str:
    """A short text that is equal for equal settings."""
    return f"{zlib.crc32(msgspec.json.encode(settings)):08x}"


def patched(settings: S, changes: Mapping[str, Any]) -> S:
    """Settings changed by a merge patch. Raises InvalidConfig."""
    try:
        return msgspec.convert(_merged(msgspec.to_builtins(settings), changes), type(settings))
    except msgspec.ValidationError as error:
        raise InvalidConfig(str(error)) from None


def _merged(document: Any, changes: Any) -> Any:
    """RFC 7396: null takes a member away, which means its default."""
    if not isinstance(changes, Mapping):
        return changes
    merged = dict(document) if isinstance(document, dict) else {}
    for name, value in changes.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value)
    return merged
