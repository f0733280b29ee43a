"""What goes wrong, in Kafka's numbers: one table, found by walking the class chain.

What lives here: the table and its look-up. What may not: response layouts. Invariant: every error of ours has a row of its
own or of a parent other than ``LogbrokerError``; what is not an error of ours is UNKNOWN_SERVER_ERROR. Rules of the
protocol itself (acks, replicas, sessions, ...), which no other door has, are refused with ``Refused`` and its number.

Clients branch on these numbers: errors that a retry can heal must be ones that Kafka's clients call retriable, and none
of the others may be (KAFKA_STORAGE_ERROR makes a client look for another leader, NOT_LEADER_OR_FOLLOWER too).
"""

from collections.abc import Mapping
from typing import Final

from logbroker import errors as e
from logbroker.wire.codes import ErrorCode

_MESSAGE_CHARS: Final = 1_000

CODES: Final[Mapping[type[e.LogbrokerError], ErrorCode]] = {
    e.LogbrokerError: ErrorCode.UNKNOWN_SERVER_ERROR,
    e.InvalidRequest: ErrorCode.INVALID_REQUEST,
    e.InvalidConfig: ErrorCode.INVALID_CONFIG,
    e.InvalidTopic: ErrorCode.INVALID_TOPIC_EXCEPTION,
    e.InvalidPartitions: ErrorCode.INVALID_PARTITIONS,
    e.InvalidOffset: ErrorCode.OFFSET_OUT_OF_RANGE,
    e.KeyRequired: ErrorCode.INVALID_RECORD,
    e.InvalidTimestamp: ErrorCode.INVALID_TIMESTAMP,
    e.MessageTooLarge: ErrorCode.MESSAGE_TOO_LARGE,
    e.CorruptMessage: ErrorCode.CORRUPT_MESSAGE,
    e.UnsupportedCompression: ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
    e.PolicyViolation: ErrorCode.POLICY_VIOLATION,
    e.HostForbidden: ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
    e.NotFound: ErrorCode.RESOURCE_NOT_FOUND,
    e.MethodNotAllowed: ErrorCode.INVALID_REQUEST,
    e.UnsupportedMediaType: ErrorCode.INVALID_REQUEST,
    e.PreconditionFailed: ErrorCode.INVALID_REQUEST,
    e.NotSupported: ErrorCode.UNSUPPORTED_VERSION,
    e.UnknownTopicOrPartition: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    e.TopicAlreadyExists: ErrorCode.TOPIC_ALREADY_EXISTS,
    e.ConfigConflict: ErrorCode.INVALID_CONFIG,
    e.TopicReserved: ErrorCode.INVALID_TOPIC_EXCEPTION,
    e.TopicInUse: ErrorCode.INVALID_TOPIC_EXCEPTION,
    e.OffsetOutOfRange: ErrorCode.OFFSET_OUT_OF_RANGE,
    e.MessageNotFound: ErrorCode.RESOURCE_NOT_FOUND,
    e.OutOfOrderSequence: ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
    e.DuplicateSequence: ErrorCode.DUPLICATE_SEQUENCE_NUMBER,
    e.InvalidProducerEpoch: ErrorCode.INVALID_PRODUCER_EPOCH,
    e.UnknownProducer: ErrorCode.UNKNOWN_PRODUCER_ID,
    e.WriterFenced: ErrorCode.INVALID_TOPIC_EXCEPTION,
    e.AppendUnknown: ErrorCode.REQUEST_TIMED_OUT,
    e.TransactionsUnsupported: ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    e.InvalidTransactionState: ErrorCode.INVALID_TXN_STATE,
    e.ProducerFenced: ErrorCode.PRODUCER_FENCED,
    e.InvalidProducerIdMapping: ErrorCode.INVALID_PRODUCER_ID_MAPPING,
    e.InvalidTransactionTimeout: ErrorCode.INVALID_TRANSACTION_TIMEOUT,
    e.ConcurrentTransactions: ErrorCode.CONCURRENT_TRANSACTIONS,
    e.TransactionNotFound: ErrorCode.TRANSACTIONAL_ID_NOT_FOUND,
    e.UnstableOffsetCommit: ErrorCode.UNSTABLE_OFFSET_COMMIT,
    e.InvalidGroup: ErrorCode.INVALID_GROUP_ID,
    e.GroupNotFound: ErrorCode.GROUP_ID_NOT_FOUND,
    e.NonEmptyGroup: ErrorCode.NON_EMPTY_GROUP,
    e.UnknownMember: ErrorCode.UNKNOWN_MEMBER_ID,
    e.FencedInstance: ErrorCode.FENCED_INSTANCE_ID,
    e.MemberIdRequired: ErrorCode.MEMBER_ID_REQUIRED,
    e.IllegalGeneration: ErrorCode.ILLEGAL_GENERATION,
    e.RebalanceInProgress: ErrorCode.REBALANCE_IN_PROGRESS,
    e.InconsistentGroupProtocol: ErrorCode.INCONSISTENT_GROUP_PROTOCOL,
    e.InvalidSessionTimeout: ErrorCode.INVALID_SESSION_TIMEOUT,
    e.GroupMaxSizeReached: ErrorCode.GROUP_MAX_SIZE_REACHED,
    e.GroupSubscribedToTopic: ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC,
    e.OffsetMetadataTooLarge: ErrorCode.OFFSET_METADATA_TOO_LARGE,
    e.StaleMemberEpoch: ErrorCode.STALE_MEMBER_EPOCH,
    e.FencedMemberEpoch: ErrorCode.FENCED_MEMBER_EPOCH,
    e.UnreleasedInstanceId: ErrorCode.UNRELEASED_INSTANCE_ID,
    e.UnsupportedAssignor: ErrorCode.UNSUPPORTED_ASSIGNOR,
    e.InvalidRegularExpression: ErrorCode.INVALID_REGULAR_EXPRESSION,
    e.QueueNotFound: ErrorCode.RESOURCE_NOT_FOUND,
    e.SubscriptionNotFound: ErrorCode.RESOURCE_NOT_FOUND,
    e.OperationNotFound: ErrorCode.RESOURCE_NOT_FOUND,
    e.SnapshotNotFound: ErrorCode.RESOURCE_NOT_FOUND,
    e.StoreNotFound: ErrorCode.RESOURCE_NOT_FOUND,
    e.ObjectNotFound: ErrorCode.RESOURCE_NOT_FOUND,
    e.ObjectAltered: ErrorCode.CORRUPT_MESSAGE,
    e.ClaimInvalid: ErrorCode.INVALID_REQUEST,
    e.FilterInvalid: ErrorCode.INVALID_REQUEST,
    e.RequestGone: ErrorCode.INVALID_REQUEST,
    e.NoResponders: ErrorCode.REQUEST_TIMED_OUT,
    e.RequestTimeout: ErrorCode.REQUEST_TIMED_OUT,
    e.RemoteError: ErrorCode.UNKNOWN_SERVER_ERROR,
    e.Closed: ErrorCode.INVALID_REQUEST,
    e.UsedAfterFork: ErrorCode.INVALID_REQUEST,
    e.QueueFull: ErrorCode.THROTTLING_QUOTA_EXCEEDED,
    e.LeaseLost: ErrorCode.RESOURCE_NOT_FOUND,
    e.StorageError: ErrorCode.KAFKA_STORAGE_ERROR,
    e.DataDirectoryError: ErrorCode.KAFKA_STORAGE_ERROR,
    e.Recovering: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    e.Unreachable: ErrorCode.BROKER_NOT_AVAILABLE,
    e.Throttled: ErrorCode.THROTTLING_QUOTA_EXCEEDED,
}


class Refused(e.InvalidRequest):
    """The request breaks a rule of the Kafka protocol."""

    def __init__(self, kafka_code: ErrorCode, detail: str) -> None:
        super().__init__(detail)
        self.kafka_code = kafka_code


def code_of(error: BaseException) -> ErrorCode:
    """The code of an error, from the nearest class in its chain that the table knows."""
    if isinstance(error, Refused):
        return error.kafka_code
    for ancestor in type(error).__mro__:
        code = CODES.get(ancestor)
        if code is not None:
            return code
    return ErrorCode.UNKNOWN_SERVER_ERROR


def message_of(error: BaseException) -> str:
    """What a client may be told about an error, cut where a client's own long names made it longer than a string may be.

    What is not ours may name files or memory, so it stays in the log.
    """
    if isinstance(error, e.LogbrokerError):
        return error.detail[:_MESSAGE_CHARS]
    return "something went wrong in the broker; its log says more"
