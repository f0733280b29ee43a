"""The data directory: its lock, its catalogue file, and where each partition's files lie.

Layout::

    lock                         held by flock while a broker runs; its text is for the message only
    catalog.json                 see ``catalog``
    topics/<topic id>/<n>/       the files of partition n (names derive from ids, never from what a client sent)

What may not live here: what is inside a partition's directory, and anything asynchronous.
Invariants: the catalogue is replaced atomically and is the commit point; files follow it and are repaired from it at start;
a directory that the catalogue does not explain is refused, never deleted.
"""

from uuid import UUID, uuid4

from logbroker.config import TopicConfig, configured
from logbroker.engine.api import TopicInfo
from logbroker.engine.catalog import Catalog, TopicEntry, decode_catalog, encode_catalog
from logbroker.errors import DataDirectoryError
from logbroker.log.descriptors import Descriptors
from logbroker.log.files import Files, Lock, make_dirs, replace_atomically
from logbroker.log.partition import PartitionLog
from logbroker.model import Now, TopicPartition

CATALOG = "catalog.json"
"""Where the catalogue is."""
LOCK = "lock"
"""The file that whoever owns the directory holds."""
_TOPICS = "topics"


def partition_path(topic_id: UUID, partition: int) -> str:
    """The directory of one partition, relative to the data directory."""
    return f"{_TOPICS}/{topic_id}/{partition}"


def read_catalog(files: Files) -> Catalog | None:
    """The catalogue, or None where there is none. Raises DataDirectoryError when it is damaged."""
    if not files.exists(CATALOG):
        return None
    file = files.open(CATALOG)
    try:
        return decode_catalog(bytes(file.pread(file.size(), 0)))
    finally:
        file.close()


class DataDirectory:
    """One data directory, held by this process from ``take`` to ``release``."""

    def __init__(self, files: Files, topic_defaults: TopicConfig, max_open_files: int) -> None:
        self._files = files
        self._defaults = topic_defaults
        self._descriptors = Descriptors(max_open_files)
        self._lock: Lock | None = None
        self.catalog = Catalog("")

    def take(self) -> None:
        """Lock the directory, load the catalogue (or found a new one) and finish deletions that a crash interrupted.

        Raises DataDirectoryError.
        """
        self._lock = self._files.lock(LOCK)
        try:
            self._load()
        except BaseException:
            self.release()
            raise

    def _load(self) -> None:
        known = read_catalog(self._files)
        present = {UUID(name) for name in self._files.listdir(_TOPICS)} if self._files.exists(_TOPICS) else set()
        if known is None:
            if present:
                raise DataDirectoryError(
                    f"catalog.json is missing but topics/ holds {len(present)} topics: restore it from a backup; "
                    "nothing was changed"
                )
            make_dirs(self._files, _TOPICS)
            self.commit(Catalog(str(uuid4())))
            return
        unexplained = present - {entry.id for entry in known} - known.deleted
        if unexplained:
            raise DataDirectoryError(
                f"topics/{min(unexplained)} is not in catalog.json: was an older catalogue restored? "
                "Restore the newer one, or move the directory away; nothing was changed"
            )
        self.catalog = known
        for topic_id in known.deleted:
            self.remove_files(topic_id)

    def commit(self, catalog: Catalog) -> None:
        """Make ``catalog`` the catalogue; durable on return. Raises StorageError, and then the old one stands."""
        gone = {topic_id for topic_id in catalog.deleted if not self._files.exists(f"{_TOPICS}/{topic_id}")}
        settled = catalog.forgetting(gone)
        replace_atomically(self._files, CATALOG, encode_catalog(settled))
        self.catalog = settled

    def info(self, entry: TopicEntry) -> TopicInfo:
        """What the interface tells of a topic."""
        config = configured(self._defaults, entry.overrides)
        return TopicInfo(entry.name, entry.id, entry.partitions, entry.overrides, config, entry.created_ms, entry.owner)

    def open_log(self, info: TopicInfo, partition: int, now: Now) -> PartitionLog:
        """Open or create the log of one partition. Raises PartitionDamaged, StorageError."""
        where = TopicPartition(info.name, partition)
        path = partition_path(info.id, partition)
        return PartitionLog.open(self._files, path, where, info.config, now, self._descriptors)

    def remove_files(self, topic_id: UUID) -> None:
        """Remove the files of a deleted topic."""
        path = f"{_TOPICS}/{topic_id}"
        if self._files.exists(path):
            self._files.rmtree(path)
            self._files.sync_dir(_TOPICS)

    def release(self) -> None:
        """Let the directory go."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
