"""The table of error codes: complete, and right where clients branch on it."""

import pytest

from logbroker import errors as e
from logbroker.kafka_api.errors import CODES, Refused, code_of, message_of
from logbroker.wire.codes import ErrorCode


def descendants(kind: type[e.LogbrokerError]) -> set[type[e.LogbrokerError]]:
    return {kind}.union(*(descendants(child) for child in kind.__subclasses__()))


OURS = sorted(
    (kind for kind in descendants(e.LogbrokerError) if kind.__module__ == e.__name__), key=lambda kind: kind.__name__
)


@pytest.mark.parametrize("kind", [kind for kind in OURS if kind is not e.LogbrokerError], ids=lambda kind: kind.__name__)
def test_every_error_has_a_code_of_its_own_or_of_a_parent(kind: type[e.LogbrokerError]) -> None:
    known = [ancestor for ancestor in kind.__mro__ if ancestor in CODES]
    assert known[0] is not e.LogbrokerError, f"{kind.__name__} has no row in kafka_api/errors.py"
    assert code_of(kind()) is CODES[known[0]]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (e.DiskFull(), ErrorCode.KAFKA_STORAGE_ERROR),
        (e.InvalidFrame(), ErrorCode.INVALID_REQUEST),
        (Refused(ErrorCode.INVALID_REQUIRED_ACKS, "acks"), ErrorCode.INVALID_REQUIRED_ACKS),
        (e.LogbrokerError(), ErrorCode.UNKNOWN_SERVER_ERROR),
        (ZeroDivisionError(), ErrorCode.UNKNOWN_SERVER_ERROR),
    ],
)
def test_the_code_of_an_error_comes_from_its_nearest_class(error: Exception, code: ErrorCode) -> None:
    assert code_of(error) is code


def test_what_is_not_ours_is_not_told() -> None:
    assert "/secret" not in message_of(OSError(2, "no such file", "/secret"))
    assert message_of(e.InvalidTopic("what is wrong")) == "what is wrong"
