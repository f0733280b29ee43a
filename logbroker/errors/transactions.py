"""What can go wrong with a transaction; see ``logbroker.errors`` for the rules of the hierarchy."""

from logbroker.errors.base import LogbrokerError


class TransactionsUnsupported(LogbrokerError):
    """Transactions are not offered here."""

    code = "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"


class InvalidTransactionState(LogbrokerError):
    """The transaction is not in a state that allows this."""

    code = "INVALID_TXN_STATE"


class ProducerFenced(LogbrokerError):
    """A newer producer with the same transactional id has taken over."""

    code = "PRODUCER_FENCED"


class InvalidProducerIdMapping(LogbrokerError):
    """The producer id is not the one that belongs to the transactional id."""

    code = "INVALID_PRODUCER_ID_MAPPING"


class InvalidTransactionTimeout(LogbrokerError):
    """The time-out of the transaction is not one the broker allows."""

    code = "INVALID_TRANSACTION_TIMEOUT"


class ConcurrentTransactions(LogbrokerError):
    """The producer's last transaction is still being completed: try again."""

    code = "CONCURRENT_TRANSACTIONS"
    retriable = True


class TransactionNotFound(LogbrokerError):
    """There is no transactional id of this name."""

    code = "TRANSACTIONAL_ID_NOT_FOUND"


class UnstableOffsetCommit(LogbrokerError):
    """Offsets of the partition are part of a transaction that is not decided yet: try again."""

    code = "UNSTABLE_OFFSET_COMMIT"
    retriable = True
