"""The Python client: ``connect(url)`` asynchronous, ``Client(url)`` synchronous, over the same calls and flows.

How it is built: ``calls`` has everything that can be asked as values, each knowing its HTTP request and its answer;
``flows``, ``batching``, ``reading``, ``settling``, ``membership`` decide what is called next, without waiting; ``aio`` and
``blocking`` are two thin layers that carry it out. ``logbroker.embedded`` carries the same calls out in process.
Imports of the package: errors, model, config, claims and the partitioner, nothing else, so that the client stands alone.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from logbroker.client.aio.client import AsyncClient as AsyncClient
    from logbroker.client.aio.client import connect as connect
    from logbroker.client.blocking.client import Client as Client

_WHERE = {
    "AsyncClient": "logbroker.client.aio.client",
    "Client": "logbroker.client.blocking.client",
    "connect": "logbroker.client.aio.client",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_WHERE[name]), name)
