"""Payloads that are too large for the log: brought to a store, fetched from it, and named by records.

What lives here: the stores of this broker by name, and the use cases of the doors. What may not: fsspec, which is
``claims.stores``'; formats of a door; deleting, which is ``claim_collection``'s.
Invariant: memory holds a chunk of a payload at a time, whatever its size; what a store does runs in threads.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

from logbroker.claims.reference import MARK, Claim, check_store, encoded
from logbroker.claims.stores import CHUNK, Store, Upload
from logbroker.config import BrokerConfig
from logbroker.errors import InvalidConfig, StoreNotFound
from logbroker.model import Record

LOCAL = "local"
"""The store every broker has: a folder beside the log, unless the settings say otherwise."""


class Claims:
    """The use cases of the claim check."""

    def __init__(self, config: BrokerConfig) -> None:
        self._urls = {LOCAL: str(Path(config.data_dir) / "objects"), **store_urls(config.object_stores)}
        self._max_bytes = config.claim_max_bytes
        self._stores: dict[str, Store] = {}

    def store(self, name: str) -> Store:
        """A store by its name. Raises ClaimInvalid, StoreNotFound, InvalidConfig."""
        found = self._stores.get(name)
        if found is not None:
            return found
        check_store(name)
        if name not in self._urls:
            raise StoreNotFound(f"this broker has no store {name!r}; it has {', '.join(sorted(self._urls))}", store=name)
        store = self._stores[name] = Store(name, self._urls[name])
        return store

    async def upload(self, name: str, chunks: AsyncIterator[bytes]) -> Claim:
        """Keep a payload; durable on return. Raises as ``store``, and MessageTooLarge, StorageError."""
        upload = await asyncio.to_thread(self.store(name).begin, self._max_bytes)
        try:
            await _write_all(upload, chunks)
            return await asyncio.to_thread(upload.commit)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(upload.abort))
            raise

    async def size(self, name: str, object_id: str) -> int:
        """How large a payload is. Raises as ``store``, and ObjectNotFound, StorageError."""
        return await asyncio.to_thread(self.store(name).size, object_id)

    async def download(self, name: str, object_id: str) -> AsyncIterator[bytes]:
        """The bytes of a payload in chunks. Raises as ``size``."""
        chunks = self.store(name).chunks(object_id)
        while (chunk := await asyncio.to_thread(_next, chunks)) is not None:
            yield chunk


async def _write_all(upload: Upload, chunks: AsyncIterator[bytes]) -> None:
    gathered = bytearray()
    async for chunk in chunks:
        gathered += chunk
        if len(gathered) >= CHUNK:
            await asyncio.to_thread(upload.write, bytes(gathered))
            gathered.clear()
    if gathered:
        await asyncio.to_thread(upload.write, bytes(gathered))


def _next(chunks: Iterator[bytes]) -> bytes | None:
    return next(chunks, None)


def claiming(record: Record, claim: Claim) -> Record:
    """The record with a reference in its payload's place."""
    return Record(encoded(claim), record.key, (*record.headers, MARK), record.timestamp_ms)


def store_urls(pairs: Sequence[str]) -> Mapping[str, str]:
    """``NAME=URL`` pairs as a mapping. Raises InvalidConfig."""
    urls: dict[str, str] = {}
    for pair in pairs:
        name, separator, url = pair.partition("=")
        if not separator or not url:
            raise InvalidConfig(f"object_stores: {pair!r} is not NAME=URL, as invoices=s3://bucket/folder")
        check_store(name)
        urls[name] = url
    return urls
