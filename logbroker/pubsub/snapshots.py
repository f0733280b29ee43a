"""Snapshots: where a subscription was, kept to be gone back to, as the catalogue keeps them under ``snapshot:{name}``.

What lives here: the document. What may not: I/O.
"""

from typing import Any

import msgspec

from logbroker.errors import DataDirectoryError
from logbroker.pubsub.cursors import Cursor

PREFIX = "snapshot:"
VERSION = 1


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What of ``topic`` was done for ``subscription``. Its records are kept until ``expires_ms`` (None: for ever)."""

    version: int = VERSION
    name: str
    subscription: str
    topic: str
    created_ms: int
    expires_ms: int | None
    cursors: dict[int, Cursor]

    @property
    def key(self) -> str:
        """Its key in the catalogue, and what it holds records as."""
        return PREFIX + self.name

    def to_json(self) -> Any:
        """The document."""
        return msgspec.to_builtins(self, str_keys=True)


def snapshot_of(key: str, document: Any) -> Snapshot:
    """The snapshot in a document. Raises DataDirectoryError for what is not one, or a newer logbroker's."""
    try:
        if document["version"] > VERSION:
            raise DataDirectoryError(f"{key} was made by a newer logbroker: use that")
        return msgspec.convert(document, Snapshot, strict=False)
    except (KeyError, TypeError, msgspec.ValidationError) as error:
        raise DataDirectoryError(f"the catalogue's document of {key} is not readable: {error}") from None
