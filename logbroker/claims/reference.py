"""The reference to a payload that a record carries in the payload's place (the claim check pattern).

What lives here: its shape, its form as bytes, and the checks of what came from outside. What may not: stores, I/O.
Invariant: a reference names a store and an object, never a place: who resolves it maps the name to a place of its own, so
no record can make a reader open a file or a URL of the writer's choice.
"""

import hashlib
import re
from collections.abc import Iterable

import msgspec

from logbroker.errors import ClaimInvalid, ObjectAltered
from logbroker.model import Header

HEADER = "logbroker-claim"
"""Marks a record whose value is a reference."""
MARK = Header(HEADER, b"1")
_STORE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_ID = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A payload of ``size`` bytes, kept as object ``id`` of a store; ``sha256`` is that of its bytes, in hex."""

    store: str
    id: str
    size: int
    sha256: str


_decoder = msgspec.json.Decoder(Claim)


def encoded(claim: Claim) -> bytes:
    """The value of a record that stands for the payload."""
    return msgspec.json.encode(claim)


def decoded(value: bytes | None) -> Claim:
    """The reference in a record's value. Raises ClaimInvalid."""
    try:
        claim = _decoder.decode(value or b"")
    except msgspec.MsgspecError as error:
        raise ClaimInvalid(f"the value is no reference to a stored payload: {error}") from None
    check_store(claim.store)
    check_id(claim.id)
    if _SHA256.fullmatch(claim.sha256) is None or claim.size < 0:
        raise ClaimInvalid("the reference has no SHA-256 in hex, or a negative size")
    return claim


def check_store(name: str) -> None:
    """Raise ClaimInvalid unless a store may be called so."""
    if _STORE.fullmatch(name) is None:
        raise ClaimInvalid(f"{name[:80]!r} is not the name of a store; one looks like local or s3-invoices")


def check_id(object_id: str) -> None:
    """Raise ClaimInvalid for what is not the id of an object."""
    if _ID.fullmatch(object_id) is None:
        raise ClaimInvalid(f"{object_id[:80]!r} is not the id of an object, which is 32 hexadecimal digits")


def verified(claim: Claim, payload: bytes) -> bytes:
    """The payload, once it is sure that it is the one meant. Raises ObjectAltered."""
    if len(payload) != claim.size or hashlib.sha256(payload).hexdigest() != claim.sha256:
        raise ObjectAltered(
            f"object {claim.id} of store {claim.store!r} is not what was stored: its size or SHA-256 differs",
            store=claim.store,
            object_id=claim.id,
        )
    return payload


def is_claim(headers: Iterable[Header]) -> bool:
    """Whether the value of a record with these headers is a reference."""
    return MARK in headers
