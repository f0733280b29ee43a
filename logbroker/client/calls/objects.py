"""Payloads that are kept in a store of the broker (claim check)."""

import msgspec

from logbroker.claims.reference import Claim
from logbroker.client.calls.base import Call, Read, Request, get, path


class PutObject(Call[Claim], frozen=True):
    """Keep a payload; records may refer to it within a day."""

    store: str
    payload: bytes

    def request(self) -> Request:
        target = path("stores", self.store, "objects")
        return Request("POST", target, self.payload, content_type="application/octet-stream")

    def answer(self, body: bytes) -> Claim:
        return msgspec.json.decode(body, type=Claim)


class GetObject(Read[bytes], frozen=True):
    """The bytes of a payload, unchecked."""

    store: str
    id: str

    def request(self) -> Request:
        return get(path("stores", self.store, "objects", self.id))

    def answer(self, body: bytes) -> bytes:
        return body
