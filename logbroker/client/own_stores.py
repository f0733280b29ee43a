"""Stores of large payloads that a client reaches by itself, under the names that records use.

What lives here: names to stores. Invariant: a record names a store, and only whoever made the client says where that is.
"""

from collections.abc import Mapping

from logbroker.claims.reference import check_store
from logbroker.claims.stores import Store

NO_STORES: Mapping[str, str] = {}


class OwnStores:
    """The stores of one client. Each is opened when it is first used."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        for name in urls:
            check_store(name)
        self._urls = dict(urls)
        self._open: dict[str, Store] = {}

    def get(self, name: str) -> Store | None:
        """A store, or None where the broker has to be asked. Raises InvalidConfig."""
        if name in self._urls and name not in self._open:
            self._open[name] = Store(name, self._urls[name])
        return self._open.get(name)
