"""The table of Kafka APIs this broker speaks: one row each, and everything else derives from it.

What lives here: keys, version ranges, where the flexible encoding begins. What may not: layouts and handlers.
Invariant: a row is here if and only if a handler serves it. The answer to ApiVersions is this table.

Clients guess the broker's release from these ranges and then use what that release has, so every range lies inside the
one of Apache Kafka 4.1 (they conclude 4.0: ListOffsets 10 is there, Produce 13 is not).
"""

from enum import Enum
from typing import Final

NEVER_FLEXIBLE: Final = 0x7FFF


class Api(Enum):
    """One API: key, lowest and highest version advertised, first flexible version (KIP-482), lowest version served.

    The last is given only where it differs from what is advertised.
    """

    # librdkafka before 2.8 sends no compressed batches to a broker that does not advertise Produce v0 (KAFKA-18659);
    # like Kafka we advertise v0 to v2 and refuse them.
    PRODUCE = 0, 0, 12, 9, 3
    FETCH = 1, 4, 16, 12
    LIST_OFFSETS = 2, 1, 10, 6
    METADATA = 3, 0, 13, 9
    OFFSET_COMMIT = 8, 2, 9, 8
    OFFSET_FETCH = 9, 1, 9, 6
    FIND_COORDINATOR = 10, 0, 6, 3
    JOIN_GROUP = 11, 0, 9, 6
    HEARTBEAT = 12, 0, 4, 4
    LEAVE_GROUP = 13, 0, 5, 4
    SYNC_GROUP = 14, 0, 5, 4
    DESCRIBE_GROUPS = 15, 0, 5, 5
    LIST_GROUPS = 16, 0, 5, 3
    API_VERSIONS = 18, 0, 4, 3
    CREATE_TOPICS = 19, 2, 7, 5
    DELETE_TOPICS = 20, 1, 6, 4
    DELETE_RECORDS = 21, 0, 2, 2
    INIT_PRODUCER_ID = 22, 0, 5, 2
    OFFSET_FOR_LEADER_EPOCH = 23, 2, 4, 4
    ADD_PARTITIONS_TO_TXN = 24, 0, 3, 3
    ADD_OFFSETS_TO_TXN = 25, 0, 3, 3
    END_TXN = 26, 0, 3, 3
    TXN_OFFSET_COMMIT = 28, 0, 3, 3
    DESCRIBE_ACLS = 29, 1, 3, 2
    DESCRIBE_CONFIGS = 32, 1, 4, 4
    ALTER_CONFIGS = 33, 0, 2, 2
    ALTER_REPLICA_LOG_DIRS = 34, 1, 2, 2
    DESCRIBE_LOG_DIRS = 35, 1, 4, 2
    CREATE_PARTITIONS = 37, 0, 3, 2
    DELETE_GROUPS = 42, 0, 2, 2
    ELECT_LEADERS = 43, 0, 2, 2
    INCREMENTAL_ALTER_CONFIGS = 44, 0, 1, 1
    ALTER_PARTITION_REASSIGNMENTS = 45, 0, 1, 0
    LIST_PARTITION_REASSIGNMENTS = 46, 0, 0, 0
    OFFSET_DELETE = 47, 0, 0, NEVER_FLEXIBLE
    DESCRIBE_USER_SCRAM_CREDENTIALS = 50, 0, 0, 0
    DESCRIBE_QUORUM = 55, 0, 2, 0
    DESCRIBE_CLUSTER = 60, 0, 1, 0
    DESCRIBE_PRODUCERS = 61, 0, 0, 0
    DESCRIBE_TRANSACTIONS = 65, 0, 0, 0
    LIST_TRANSACTIONS = 66, 0, 1, 0
    CONSUMER_GROUP_HEARTBEAT = 68, 0, 1, 0
    CONSUMER_GROUP_DESCRIBE = 69, 0, 1, 0

    def __init__(
        self, key: int, min_version: int, max_version: int, flexible_from: int, min_served: int | None = None
    ) -> None:
        self.key = key
        self.min_version = min_version
        self.max_version = max_version
        self.flexible_from = flexible_from
        self.min_served = min_version if min_served is None else min_served
        self.message_name = "".join(word.capitalize() for word in self.name.split("_"))
        """What Kafka's message definitions call it, without "Request" or "Response"."""

    def serves(self, version: int) -> bool:
        """Whether a request of this version is handled rather than refused."""
        return self.min_served <= version <= self.max_version

    def response_header_version(self, version: int) -> int:
        """0, or 1 (with tagged fields) where the version is flexible.

        Always 0 for ApiVersions: the answer must be readable before client and broker know each other (KIP-511).
        """
        return 1 if version >= self.flexible_from and self is not Api.API_VERSIONS else 0


API_BY_KEY: Final = {api.key: api for api in Api}
