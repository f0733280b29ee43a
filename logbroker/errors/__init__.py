"""The only exception hierarchy of logbroker.

What lives here: one small class per thing that can go wrong, with a stable ``code`` and whether trying again can help.
What may not: HTTP statuses and Kafka error numbers; each door has one table that maps these classes to its own words.
Invariant: the docstring of a class is its default message, and ``code`` is unique.

``fields`` carries facts a caller can act on (``log_start_offset``, ``partition``, ...); doors copy them into their answer.
"""

from logbroker.errors.base import LogbrokerError
from logbroker.errors.records import InvalidTimestamp, KeyRequired, MessageTooLarge
from logbroker.errors.transactions import (
    ConcurrentTransactions,
    InvalidProducerIdMapping,
    InvalidTransactionState,
    InvalidTransactionTimeout,
    ProducerFenced,
    TransactionNotFound,
    TransactionsUnsupported,
    UnstableOffsetCommit,
)

__all__ = [  # what is defined elsewhere
    "ConcurrentTransactions",
    "InvalidProducerIdMapping",
    "InvalidTimestamp",
    "InvalidTransactionState",
    "InvalidTransactionTimeout",
    "KeyRequired",
    "LogbrokerError",
    "MessageTooLarge",
    "ProducerFenced",
    "TransactionNotFound",
    "TransactionsUnsupported",
    "UnstableOffsetCommit",
]

# -- requests that are wrong as they stand ---------------------------------------------------------------------------


class InvalidRequest(LogbrokerError):
    """The request is malformed."""

    code = "INVALID_REQUEST"


class InvalidFrame(InvalidRequest):
    """The size in front of a request is negative or above the limit: the stream cannot be followed any further."""

    code = "INVALID_FRAME"


class InvalidConfig(LogbrokerError):
    """A setting has a name or a value that is not accepted."""

    code = "INVALID_CONFIG"


class InvalidTopic(LogbrokerError):
    """The name is not a valid topic name: 1 to 249 of A-Z, a-z, 0-9, '.', '_', '-', and neither '.' nor '..'."""

    code = "INVALID_TOPIC"


class InvalidPartitions(LogbrokerError):
    """The number of partitions is not acceptable."""

    code = "INVALID_PARTITIONS"


class InvalidOffset(LogbrokerError):
    """The offset or position is not acceptable."""

    code = "INVALID_OFFSET"


class CorruptMessage(LogbrokerError):
    """The bytes are not a valid record batch."""

    code = "CORRUPT_MESSAGE"


class UnsupportedCompression(LogbrokerError):
    """The compression type is unknown."""

    code = "UNSUPPORTED_COMPRESSION_TYPE"


class PolicyViolation(LogbrokerError):
    """The request satisfies the protocol but not the policy of this topic."""

    code = "POLICY_VIOLATION"


class FilterInvalid(LogbrokerError):
    """The filter is not a valid CEL expression that gives true or false."""

    code = "FILTER_INVALID"


class HostForbidden(LogbrokerError):
    """The Host or Origin header names a host that this broker does not serve."""

    code = "HOST_FORBIDDEN"


class NotFound(LogbrokerError):
    """There is no such route."""

    code = "NOT_FOUND"


class MethodNotAllowed(LogbrokerError):
    """The resource does not take this method."""

    code = "METHOD_NOT_ALLOWED"


class UnsupportedMediaType(LogbrokerError):
    """The resource does not take a body of this content type."""

    code = "UNSUPPORTED_MEDIA_TYPE"


class PreconditionFailed(LogbrokerError):
    """It was changed since: If-Match names another state."""

    code = "PRECONDITION_FAILED"


class NotSupported(LogbrokerError):
    """The engine of this broker cannot do that."""

    code = "NOT_SUPPORTED"


# -- topics ----------------------------------------------------------------------------------------------------------


class UnknownTopicOrPartition(LogbrokerError):
    """There is no such topic or partition."""

    code = "UNKNOWN_TOPIC_OR_PARTITION"


class TopicAlreadyExists(LogbrokerError):
    """A topic of that name exists."""

    code = "TOPIC_ALREADY_EXISTS"


class ConfigConflict(LogbrokerError):
    """It exists already with a different configuration."""

    code = "CONFIG_CONFLICT"


class TopicReserved(LogbrokerError):
    """Names that end in '.retry' or '.dlq', or start with '__', are written by logbroker alone."""

    code = "TOPIC_RESERVED"


class TopicInUse(LogbrokerError):
    """A queue or subscription stands on this topic."""

    code = "TOPIC_IN_USE"


class OffsetOutOfRange(LogbrokerError):
    """The offset lies outside the log."""

    code = "OFFSET_OUT_OF_RANGE"


class MessageNotFound(LogbrokerError):
    """There is no record or message at that position or under that id."""

    code = "MESSAGE_NOT_FOUND"


# -- producers -------------------------------------------------------------------------------------------------------


class OutOfOrderSequence(LogbrokerError):
    """The sequence number of an idempotent producer does not follow its last one."""

    code = "OUT_OF_ORDER_SEQUENCE"


class DuplicateSequence(LogbrokerError):
    """The batch repeats one that is older than the remembered window of its producer."""

    code = "DUPLICATE_SEQUENCE"


class InvalidProducerEpoch(LogbrokerError):
    """A newer producer with the same id is active."""

    code = "INVALID_PRODUCER_EPOCH"


class UnknownProducer(LogbrokerError):
    """The producer id was never given out, or was forgotten."""

    code = "UNKNOWN_PRODUCER_ID"


class WriterFenced(LogbrokerError):
    """A later claim took over the exclusive right to append to this partition."""

    code = "WRITER_FENCED"


class AppendUnknown(LogbrokerError):
    """The append may or may not have happened; read the log to find out."""

    code = "APPEND_UNKNOWN"
    retriable = True


# -- consumer groups -------------------------------------------------------------------------------------------------


class InvalidGroup(LogbrokerError):
    """The group id is not acceptable."""

    code = "INVALID_GROUP_ID"


class GroupNotFound(LogbrokerError):
    """There is no such group."""

    code = "GROUP_ID_NOT_FOUND"


class NonEmptyGroup(LogbrokerError):
    """The group has members."""

    code = "NON_EMPTY_GROUP"


class UnknownMember(LogbrokerError):
    """The member is not (or no longer) part of the group: join again."""

    code = "UNKNOWN_MEMBER_ID"


class FencedInstance(LogbrokerError):
    """Another member with the same group.instance.id took over."""

    code = "FENCED_INSTANCE_ID"


class MemberIdRequired(LogbrokerError):
    """Join again with the member id that came with this answer."""

    code = "MEMBER_ID_REQUIRED"


class IllegalGeneration(LogbrokerError):
    """The generation is not the group's current one."""

    code = "ILLEGAL_GENERATION"


class RebalanceInProgress(LogbrokerError):
    """The group is rebalancing: join again."""

    code = "REBALANCE_IN_PROGRESS"


class InconsistentGroupProtocol(LogbrokerError):
    """The member's protocol type or assignors do not match those of the group."""

    code = "INCONSISTENT_GROUP_PROTOCOL"


class InvalidSessionTimeout(LogbrokerError):
    """The session timeout is outside the range the broker allows."""

    code = "INVALID_SESSION_TIMEOUT"


class GroupMaxSizeReached(LogbrokerError):
    """The group has as many members as the broker allows."""

    code = "GROUP_MAX_SIZE_REACHED"


class GroupSubscribedToTopic(LogbrokerError):
    """A member of the group is subscribed to the topic whose offsets are to go."""

    code = "GROUP_SUBSCRIBED_TO_TOPIC"


class OffsetMetadataTooLarge(LogbrokerError):
    """The metadata of a committed offset is longer than 4096 bytes."""

    code = "OFFSET_METADATA_TOO_LARGE"


class StaleMemberEpoch(LogbrokerError):
    """The member has reached a later epoch: ask again with that."""

    code = "STALE_MEMBER_EPOCH"


class FencedMemberEpoch(LogbrokerError):
    """The group and the member do not agree on the member's epoch: give up all partitions and join again with epoch 0."""

    code = "FENCED_MEMBER_EPOCH"


class UnreleasedInstanceId(LogbrokerError):
    """Another member still holds the group.instance.id."""

    code = "UNRELEASED_INSTANCE_ID"


class UnsupportedAssignor(LogbrokerError):
    """The broker does not have the assignor asked for."""

    code = "UNSUPPORTED_ASSIGNOR"


class InvalidRegularExpression(LogbrokerError):
    """The pattern is not a regular expression in RE2's syntax."""

    code = "INVALID_REGULAR_EXPRESSION"


# -- queues and subscriptions ----------------------------------------------------------------------------------------


class QueueNotFound(LogbrokerError):
    """There is no such queue."""

    code = "QUEUE_NOT_FOUND"


class SubscriptionNotFound(LogbrokerError):
    """There is no such subscription."""

    code = "SUBSCRIPTION_NOT_FOUND"


class SnapshotNotFound(LogbrokerError):
    """There is no such snapshot."""

    code = "SNAPSHOT_NOT_FOUND"


class OperationNotFound(LogbrokerError):
    """There is no such operation."""

    code = "OPERATION_NOT_FOUND"


class QueueFull(LogbrokerError):
    """The queue holds as many messages as its max_size allows."""

    code = "QUEUE_FULL"
    retriable = True


class LeaseLost(LogbrokerError):
    """The receipt is no longer valid: its lease expired, was settled, or went to someone else."""

    code = "LEASE_LOST"


class NoResponders(LogbrokerError):
    """Nobody listens to the service."""

    code = "NO_RESPONDERS"
    retriable = True


class RequestTimeout(LogbrokerError):
    """The service did not answer in time; it may still do what was asked."""

    code = "REQUEST_TIMEOUT"


class RequestGone(LogbrokerError):
    """Nobody waits for this reply any more."""

    code = "REQUEST_GONE"


class RemoteError(LogbrokerError):
    """The service answered with an error."""

    code = "REMOTE_ERROR"


# -- claim check -----------------------------------------------------------------------------------------------------


class ClaimInvalid(LogbrokerError):
    """This is no reference to a stored payload, or it names no store or object as ours are named."""

    code = "CLAIM_INVALID"


class StoreNotFound(LogbrokerError):
    """There is no such store."""

    code = "STORE_NOT_FOUND"


class ObjectNotFound(LogbrokerError):
    """The store has no such object."""

    code = "OBJECT_NOT_FOUND"


class ObjectAltered(LogbrokerError):
    """The stored payload is not what its reference says."""

    code = "OBJECT_ALTERED"


# -- the machine underneath ------------------------------------------------------------------------------------------


class StorageError(LogbrokerError):
    """Reading or writing the data directory failed."""

    code = "STORAGE_ERROR"
    retriable = True


class DiskFull(StorageError):
    """The disk is full; nothing was written."""

    code = "DISK_FULL"


class PartitionDamaged(StorageError):
    """The files of the partition are damaged; nothing was skipped or deleted."""

    code = "PARTITION_DAMAGED"
    retriable = False


class FlushFailed(StorageError):
    """A flush to disk failed: what is on disk is unknown, so the broker stops."""

    code = "FLUSH_FAILED"
    retriable = False


class DataDirectoryError(LogbrokerError):
    """The data directory cannot be used."""

    code = "DATA_DIRECTORY"


class Recovering(LogbrokerError):
    """The broker is still loading, or is shutting down."""

    code = "RECOVERING"
    retriable = True


class Unreachable(LogbrokerError):
    """The broker cannot be reached, or did not answer in time."""

    code = "UNREACHABLE"
    retriable = True


class Closed(LogbrokerError):
    """The client, producer or consumer is closed, or not open yet: use it inside its context."""

    code = "CLOSED"


class UsedAfterFork(LogbrokerError):
    """The client was made in another process: make one in each process, after the fork."""

    code = "USED_AFTER_FORK"


class Throttled(LogbrokerError):
    """Too much at once: try again later."""

    code = "THROTTLED"
    retriable = True
