"""What can be wrong with a record that is to be written."""

from logbroker.errors.base import LogbrokerError


class InvalidTimestamp(LogbrokerError):
    """The timestamp of a record is outside the range the topic accepts."""

    code = "INVALID_TIMESTAMP"


class KeyRequired(LogbrokerError):
    """The topic is compacted, so each of its records needs a key."""

    code = "KEY_REQUIRED"


class MessageTooLarge(LogbrokerError):
    """The record or batch is larger than the topic accepts (max.message.bytes)."""

    code = "MESSAGE_TOO_LARGE"
