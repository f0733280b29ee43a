"""References to stored payloads: what is one, and what is refused before anything is opened by it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logbroker.claims.reference import MARK, Claim, decoded, encoded, is_claim
from logbroker.errors import ClaimInvalid
from logbroker.model import Header

CLAIM = Claim("local", "ab" * 16, 20_000_000, "cd" * 32)


def test_a_reference_comes_back_as_it_went() -> None:
    assert decoded(encoded(CLAIM)) == CLAIM


def test_a_record_is_marked_as_one_that_carries_a_reference() -> None:
    assert is_claim((Header("a", b"b"), MARK))
    assert not is_claim((Header("logbroker-claim", b"0"),))


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "../../etc/passwd"},
        {"id": "ab" * 15},
        {"id": "AB" * 16},
        {"id": "ab" * 16 + "\n"},
        {"store": "../x"},
        {"store": "file:///etc"},
        {"store": ""},
        {"sha256": "cd" * 31},
        {"size": -1},
        {"size": "large"},
        {"url": "http://169.254.169.254/"},
    ],
)
def test_a_hostile_reference_is_refused(changes: dict[str, object]) -> None:
    value = json.dumps({**json.loads(encoded(CLAIM)), **changes}).encode()
    with pytest.raises(ClaimInvalid):
        decoded(value)


@given(st.one_of(st.none(), st.binary()))
def test_whatever_the_bytes_there_is_a_reference_or_a_refusal(value: bytes | None) -> None:
    with pytest.raises(ClaimInvalid):
        decoded(value)
