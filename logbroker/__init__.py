"""logbroker: one Python process, one durable log, several doors.

Only the public names and the version live here. Importing the package starts nothing: no event loop, no threads, no
environment reads, and no heavy dependency; a name is imported when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from logbroker.client.aio.client import AsyncClient as AsyncClient
    from logbroker.client.aio.client import connect as connect
    from logbroker.client.aio.worker import Context as Context
    from logbroker.client.aio.worker import Worker as Worker
    from logbroker.client.blocking.client import Client as Client
    from logbroker.client.calls.messages import Delivery as Delivery
    from logbroker.client.calls.records import Record as Record
    from logbroker.client.calls.records import RecordMetadata as RecordMetadata
    from logbroker.client.handling import DeadLetter as DeadLetter
    from logbroker.client.handling import Retry as Retry
    from logbroker.client.inbox import Inbox as Inbox
    from logbroker.client.positions import Snapshot as Snapshot
    from logbroker.client.settling import message as message
    from logbroker.clock import ManualClock as ManualClock
    from logbroker.embedded import Broker as Broker
    from logbroker.errors import LogbrokerError as LogbrokerError

__version__ = "0.1.0"

_PUBLIC = {
    "AsyncClient": "logbroker.client.aio.client",
    "Broker": "logbroker.embedded",
    "Context": "logbroker.client.aio.worker",
    "DeadLetter": "logbroker.client.handling",
    "Delivery": "logbroker.client.calls.messages",
    "Inbox": "logbroker.client.inbox",
    "Client": "logbroker.client.blocking.client",
    "LogbrokerError": "logbroker.errors",
    "ManualClock": "logbroker.clock",
    "Record": "logbroker.client.calls.records",
    "RecordMetadata": "logbroker.client.calls.records",
    "Retry": "logbroker.client.handling",
    "Snapshot": "logbroker.client.positions",
    "Worker": "logbroker.client.aio.worker",
    "connect": "logbroker.client.aio.client",
    "message": "logbroker.client.settling",
}
"""The public names, and where each is."""


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
