"""``logbroker backup`` and ``restore``: copies of a whole broker, as of one moment.

What lives here: the form of a backup, and copying. What may not: what is one moment (``engine.frozen``), HTTP.

A backup is a directory of its own, named after its time, below the one given::

    20261124T120000Z/backup.json     a line {"format": 1, "blake2b": ...} over the rest: the list of files
    20261124T120000Z/data/...        the files, as they lie in a data directory

Sealed segments that the backup before has too (by digest) are linked to it, not copied: each backup is whole, and each can
be removed without the others. Invariants: ``backup.json`` is written last, so a directory without it is no backup; in a
restored data directory ``catalog.json`` is written last, so that no broker starts on half of it.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from logbroker.engine.datadir import CATALOG
from logbroker.errors import DataDirectoryError, PartitionDamaged
from logbroker.log.files.disk import DiskFiles
from logbroker.log.names import DIGEST, INDEX, LOG, TIME_INDEX
from logbroker.log.verify import DAMAGE, verify_partition

FORMAT: Final = 1
MANIFEST: Final = "backup.json"
_DATA: Final = "data"
_CHUNK: Final = 1 << 20
_COVERED_BY_DIGEST: Final = (LOG, INDEX, TIME_INDEX)

Progress = Callable[[int], None]


class BackedUp(msgspec.Struct, frozen=True):
    """One file of a backup."""

    path: str
    size: int
    blake2b: str


class Manifest(msgspec.Struct, frozen=True):
    """What a backup holds."""

    cluster_id: str
    created_ms: int
    files: list[BackedUp]


class _Head(msgspec.Struct):
    format: int
    blake2b: str


class Outcome(msgspec.Struct):
    """What a backup did."""

    path: str
    files: int
    copied_bytes: int
    linked_bytes: int


def back_up(
    source: Path, listed: Iterable[tuple[str, int]], cluster_id: str, created_ms: int, destination: Path, progress: Progress
) -> Outcome:
    """Copy the first so many bytes of each listed file of ``source`` into a new backup in ``destination``.

    Raises OSError, DataDirectoryError.
    """
    before = newest(destination)
    known = {one.path: one for one in read_manifest(before).files} if before is not None else {}
    path = _new_directory(destination)
    outcome = Outcome(str(path), 0, 0, 0)
    files: list[BackedUp] = []
    sizes = dict(listed)
    same = _Sameness(source, sizes, known)
    for name, size in sizes.items():
        target = path / _DATA / name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        one = known.get(name)
        if before is not None and one is not None and same(name) and _link(before / _DATA / name, target):
            outcome.linked_bytes += size
        else:
            one = BackedUp(name, size, _copy(source / name, size, target))
            outcome.copied_bytes += size
        files.append(one)
        outcome.files += 1
        progress(size)
    _sync_directories(path)
    _write_manifest(path, Manifest(cluster_id, created_ms, files))
    return outcome


class _Sameness:
    """Whether a file of a sealed segment is what the backup before has: their digests are the same."""

    def __init__(self, source: Path, sizes: Mapping[str, int], known: Mapping[str, BackedUp]) -> None:
        self._source = source
        self._sizes = sizes
        self._known = known

    def __call__(self, name: str) -> bool:
        stem, _, kind = name.rpartition(".")
        digest = self._known.get(f"{stem}.{DIGEST}")
        if kind not in _COVERED_BY_DIGEST or digest is None or digest.path not in self._sizes:
            return False
        if self._known[name].size != self._sizes[name]:
            return False
        return hashlib.blake2b((self._source / digest.path).read_bytes()).hexdigest() == digest.blake2b


def restore(backup: Path, data_dir: Path, progress: Progress) -> Manifest:
    """Copy a backup into ``data_dir``, which must be empty or missing, and check every byte of it.

    Raises DataDirectoryError for a directory that is not empty or a backup that is not whole, PartitionDamaged for records
    that are damaged in it, OSError. After an error there is no catalogue, so no broker starts on it.
    """
    manifest = read_manifest(backup)
    if data_dir.exists() and any(data_dir.iterdir()):
        raise DataDirectoryError(f"{data_dir} is not empty: restore into a directory of its own")
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = sorted(manifest.files, key=lambda one: one.path == CATALOG)
    if not files or files[-1].path != CATALOG:
        raise DataDirectoryError(f"{backup} holds no {CATALOG}: it is no backup of a broker")
    for one in files[:-1]:
        _restore_one(backup, one, data_dir)
        progress(one.size)
    _check(data_dir)
    _sync_directories(data_dir)
    _restore_one(backup, files[-1], data_dir)
    _sync_directories(data_dir)
    return manifest


def _restore_one(backup: Path, one: BackedUp, data_dir: Path) -> None:
    target = data_dir / one.path
    if not target.resolve().is_relative_to(data_dir.resolve()):
        raise DataDirectoryError(f"{backup} names {one.path!r}, which lies outside of a data directory")
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _copy(backup / _DATA / one.path, one.size, target) != one.blake2b:
        target.unlink()
        raise DataDirectoryError(f"{backup / _DATA / one.path} is not what was backed up: take another backup")


def _check(data_dir: Path) -> None:
    files = DiskFiles(data_dir)
    for directory in sorted({path.parent for path in data_dir.glob(f"topics/*/*/*.{LOG}")}):
        for finding in verify_partition(files, str(directory.relative_to(data_dir))):
            if finding.severity == DAMAGE:
                raise PartitionDamaged(
                    f"{finding.file} was damaged when it was backed up: {finding.message}. Take an older backup, or copy "
                    "catalog.json by hand and see 'logbroker segment repair'"
                )


# -- the form ----------------------------------------------------------------------------------------------------------


def backups(destination: Path) -> list[Path]:
    """The whole backups in a directory, the oldest first."""
    return sorted(path.parent for path in destination.glob(f"*/{MANIFEST}"))


def newest(destination: Path) -> Path | None:
    """The newest whole backup in a directory; the directory itself where it is one."""
    if (destination / MANIFEST).exists():
        return destination
    found = backups(destination)
    return found[-1] if found else None


def read_manifest(backup: Path) -> Manifest:
    """Raises DataDirectoryError where it is damaged or of a newer format."""
    try:
        first, _, body = (backup / MANIFEST).read_bytes().partition(b"\n")
        head = msgspec.json.decode(first, type=_Head)
        if head.format > FORMAT:
            raise DataDirectoryError(f"{backup} has format {head.format}, this logbroker knows up to {FORMAT}")
        if hashlib.blake2b(body).hexdigest() != head.blake2b:
            raise DataDirectoryError(f"{backup / MANIFEST} is damaged: its checksum does not match")
        return msgspec.json.decode(body, type=Manifest)
    except msgspec.MsgspecError as error:
        raise DataDirectoryError(f"{backup / MANIFEST} is damaged: {error}") from None


def _write_manifest(path: Path, manifest: Manifest) -> None:
    body = msgspec.json.encode(manifest)
    head = msgspec.json.encode(_Head(FORMAT, hashlib.blake2b(body).hexdigest()))
    temporary = path / f"{MANIFEST}.tmp"
    with temporary.open("wb") as file:
        file.write(head + b"\n" + body)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path / MANIFEST)
    _sync(path)
    _sync(path.parent)


def _new_directory(destination: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    for name in _names(stamp):
        path = destination / name
        if not path.exists():
            path.mkdir(mode=0o700, parents=True)
            return path
    raise AssertionError("there is always a next name")


def _names(stamp: str) -> Iterator[str]:
    yield stamp
    yield from (f"{stamp}-{number}" for number in range(2, 1_000_000))


# -- files -------------------------------------------------------------------------------------------------------------


def _copy(source: Path, size: int, target: Path) -> str:
    """Copy the first ``size`` bytes, durably; returns their hash. Raises DataDirectoryError where there are fewer."""
    hashed = hashlib.blake2b()
    left = size
    target.touch(mode=0o600, exist_ok=False)
    with source.open("rb") as given, target.open("wb") as made:
        while left and (chunk := given.read(min(_CHUNK, left))):
            hashed.update(chunk)
            made.write(chunk)
            left -= len(chunk)
        made.flush()
        os.fsync(made.fileno())
    if left:
        raise DataDirectoryError(f"{source} is {left} bytes shorter than it should be")
    return hashed.hexdigest()


def _link(present: Path, target: Path) -> bool:
    """Give a file of the backup before one more name; whether that could be done."""
    try:
        target.hardlink_to(present)
    except OSError:
        return False
    return True


def _sync_directories(root: Path) -> None:
    for directory, _, _ in os.walk(root, topdown=False):
        _sync(Path(directory))


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
