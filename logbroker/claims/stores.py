"""Where payloads are kept: the one adapter over fsspec, so a store is a folder, a bucket, or whatever fsspec speaks to.

What lives here: writing, reading, listing and deleting objects. What may not: the event loop; all calls block.
Invariants: an object is whole or not there; its bytes are on disk when ``commit`` returns (in a folder; a bucket promises
the same); what is read is what the reference says, or an error.
"""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from logbroker.claims.reference import Claim, check_id, check_store, verified
from logbroker.errors import ClaimInvalid, InvalidConfig, MessageTooLarge, ObjectNotFound, StorageError

CHUNK = 1 << 20
_UNFINISHED = ".part"


class Stored(NamedTuple):
    """An object that is in a store. ``written_ms`` is by the store's clock; unfinished ones were never referred to."""

    id: str
    written_ms: int
    is_finished: bool = True


class Store:
    """One store: objects below a base URL (or path), in folders by the first two digits of their ids."""

    def __init__(self, name: str, base_url: str) -> None:
        from fsspec.core import url_to_fs  # costs 60 ms, which only those who use a store should pay

        check_store(name)
        self.name = name
        try:
            self._fs, self._base = url_to_fs(base_url)
        except (ImportError, ValueError) as error:
            raise InvalidConfig(f"store {name!r} cannot be at {base_url!r}: {error}") from None
        protocols = self._fs.protocol
        self._is_local = "file" in ((protocols,) if isinstance(protocols, str) else protocols)

    def _path(self, object_id: str) -> str:
        check_id(object_id)
        return f"{self._base}/{object_id[:2]}/{object_id}"

    def begin(self, max_bytes: int) -> "Upload":
        """Start writing an object. Raises StorageError."""
        object_id = secrets.token_hex(16)
        with _failures(f"store {self.name!r} cannot be written"):
            path = self._path(object_id)
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            written_to = path + _UNFINISHED if self._is_local else path
            return Upload(self, object_id, self._fs.open(written_to, "wb"), max_bytes)

    def finish(self, object_id: str, file: Any) -> None:
        """Make an object that was written whole be there."""
        path = self._path(object_id)
        with _failures(f"store {self.name!r} cannot be written"):
            if self._is_local:
                file.flush()
                os.fsync(file.fileno())
            file.close()
            if self._is_local:
                Path(path + _UNFINISHED).replace(path)
                _flush_folders(Path(path).parent, Path(self._base))

    def abandon(self, object_id: str, file: Any) -> None:
        """Leave nothing of an object that was not written whole."""
        path = self._path(object_id)
        with contextlib.suppress(OSError):  # what stays is found by whoever collects
            if self._is_local:
                file.close()
                path += _UNFINISHED
            else:
                file.discard()
            self._fs.rm(path)

    def put(self, payload: bytes, max_bytes: int) -> Claim:
        """Keep a payload that is in memory. Raises MessageTooLarge, StorageError."""
        upload = self.begin(max_bytes)
        try:
            upload.write(payload)
            return upload.commit()
        except BaseException:
            upload.abort()
            raise

    def load(self, claim: Claim) -> bytes:
        """The payload, checked. Raises ObjectNotFound, ObjectAltered, StorageError."""
        return verified(claim, b"".join(self.chunks(claim.id)))

    def size(self, object_id: str) -> int:
        """How large an object is. Raises ObjectNotFound, StorageError."""
        with self._finding(object_id):
            return int(self._fs.size(self._path(object_id)))

    def chunks(self, object_id: str) -> Iterator[bytes]:
        """The bytes of an object, unchecked. Raises ObjectNotFound, StorageError."""
        path = self._path(object_id)
        with self._finding(object_id):
            file = self._fs.open(path, "rb")
        with file:
            while True:
                with self._finding(object_id):
                    chunk = file.read(CHUNK)
                if not chunk:
                    return
                yield chunk

    def delete(self, object_id: str, *, is_finished: bool = True) -> None:
        """Delete an object; one that is not there is fine. Raises StorageError."""
        with _failures(f"store {self.name!r} cannot be written"), contextlib.suppress(FileNotFoundError):
            self._fs.rm(self._path(object_id) + ("" if is_finished else _UNFINISHED))

    def list(self) -> list[Stored]:
        """What is in the store. Raises StorageError."""
        with _failures(f"store {self.name!r} cannot be listed"):
            if not self._fs.exists(self._base):
                return []
            return [one for info in self._fs.find(self._base, detail=True).values() if (one := _stored(info)) is not None]

    @contextlib.contextmanager
    def _finding(self, object_id: str) -> Iterator[None]:
        try:
            with _failures(f"store {self.name!r} cannot be read"):
                yield
        except FileNotFoundError:
            raise ObjectNotFound(
                f"store {self.name!r} has no object {object_id}: it was collected with its record, or is another store's",
                store=self.name,
                object_id=object_id,
            ) from None


class Upload:
    """An object that is being written."""

    def __init__(self, store: Store, object_id: str, file: Any, max_bytes: int) -> None:
        self._store = store
        self._id = object_id
        self._file = file
        self._max_bytes = max_bytes
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, chunk: bytes) -> None:
        """Add bytes. Raises MessageTooLarge, StorageError."""
        self._size += len(chunk)
        if self._size > self._max_bytes:
            raise MessageTooLarge(f"the payload has more than claim_max_bytes = {self._max_bytes} bytes")
        self._digest.update(chunk)
        with _failures(f"store {self._store.name!r} cannot be written"):
            self._file.write(chunk)

    def commit(self) -> Claim:
        """The reference to what was written, which is durable now. Raises StorageError."""
        self._store.finish(self._id, self._file)
        return Claim(self._store.name, self._id, self._size, self._digest.hexdigest())

    def abort(self) -> None:
        """Leave nothing behind."""
        self._store.abandon(self._id, self._file)


@contextlib.contextmanager
def _failures(what: str) -> Iterator[None]:
    """Whatever a file system raises but FileNotFoundError, as StorageError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(f"{what}: {error}") from None


def _stored(info: dict[str, Any]) -> Stored | None:
    name = str(info["name"]).rpartition("/")[2]
    try:
        check_id(name.removesuffix(_UNFINISHED))
    except ClaimInvalid:  # not ours: leave it alone
        return None
    moment = info.get("mtime") or info.get("LastModified") or info.get("created") or 0
    seconds = moment.timestamp() if isinstance(moment, datetime) else float(moment)
    return Stored(name.removesuffix(_UNFINISHED), int(seconds * 1_000), not name.endswith(_UNFINISHED))


def _flush_folders(folder: Path, base: Path) -> None:
    """A file's name, and that of a folder made for it, are on disk only when the folders above are flushed."""
    for one in (folder, base, base.parent):
        descriptor = os.open(one, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
