"""The definition of a subscription as the catalogue keeps it: one JSON document under ``subscription:{name}``.

What lives here: the document, and the versions of its filter. What may not: I/O.
Invariants: a record is judged by the filter version that was in force when it was read first, whatever is read again after
a restart: a version says from which offset of each partition it holds. Only a seek lets a newer version judge the past.

A seek is written here before the machines are told: ``generation`` is the one they have to be of, ``starts`` and ``done``
what they begin with. A machine that a crash has kept from hearing it is told when it is loaded, so a seek happens to all
partitions or to none.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from logbroker.pubsub.cursors import Cursor
from logbroker.pubsub.settings import SubscriptionSettings
from logbroker.queues.commands import Seek
from logbroker.queues.dispatcher.definition import View
from logbroker.queues.rules import LeaseRules
from logbroker.queues.settings import QueueSettings


class FilterVersion(msgspec.Struct, frozen=True):
    """A filter, and the first offset of each partition that it judges; 0 where none is named."""

    filter: str | None
    since: dict[int, int] = {}


class SubscriptionDefinition(View, frozen=True, kw_only=True):
    """A subscription. ``filters`` are the versions that may still be asked, the present one last."""

    KIND = "subscription"
    IS_SENT_TO = False

    config: SubscriptionSettings
    generation: int = 1
    done: dict[int, tuple[int, ...]] = msgspec.field(default_factory=dict)
    filters: tuple[FilterVersion, ...]

    @property
    def topic(self) -> str:
        return self.config.topic

    @property
    def settings(self) -> QueueSettings:
        return self.config.delivery()

    def rules(self) -> LeaseRules:
        """As a queue's, but that the time to live of a message is the business of the queue it was sent to."""
        return replace(super().rules(), own_ttl=False)

    def seek_first(self, partition: int, generation: int) -> Seek | None:
        if generation >= self.generation or partition not in self.starts:
            return None
        cursor = Cursor(self.starts[partition], self.done.get(partition, ()))
        return Seek(cursor.offset, self.generation, cursor.done)

    def sought(self, cursors: Mapping[int, Cursor], generation: int) -> "SubscriptionDefinition":
        """The definition after a seek: in those partitions the present filter judges everything."""
        kept = (
            FilterVersion(one.filter, {number: since for number, since in one.since.items() if number not in cursors})
            for one in self.filters
        )
        return msgspec.structs.replace(
            self,
            generation=generation,
            starts={number: cursor.offset for number, cursor in cursors.items()},
            done={number: cursor.runs for number, cursor in cursors.items() if cursor.runs},
            filters=_needed(kept, {}),
        )

    def changed(
        self, config: SubscriptionSettings, known: Mapping[int, int], frontiers: Mapping[int, int]
    ) -> "SubscriptionDefinition":
        """The definition with other settings. Another filter judges what is not ``known`` yet."""
        filters = self.filters
        if config.filter != self.config.filter:
            filters = _needed((*filters, FilterVersion(config.filter, dict(known))), frontiers)
        return msgspec.structs.replace(self, config=config, filters=filters)

    def to_json(self) -> Any:
        """The document."""
        return msgspec.to_builtins(self, str_keys=True)


def _needed(versions: Iterable[FilterVersion], frontiers: Mapping[int, int]) -> tuple[FilterVersion, ...]:
    """The versions without those after which everything that is not done is judged by a later one."""
    needed = list(versions)
    while len(needed) > 1:
        since = needed[1].since
        if any(offset > frontiers.get(number, 0) for number, offset in since.items()):
            break
        del needed[0]
    return tuple(needed)
