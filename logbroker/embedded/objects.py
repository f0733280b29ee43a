"""Payloads in stores, in process."""

from collections.abc import AsyncIterator

from logbroker.broker.services import Services
from logbroker.claims.reference import Claim
from logbroker.client.calls import objects as o
from logbroker.embedded.handlers import carries_out


@carries_out(o.PutObject)
async def put(services: Services, call: o.PutObject) -> Claim:
    async def whole() -> AsyncIterator[bytes]:
        yield call.payload

    return await services.claims.upload(call.store, whole())


@carries_out(o.GetObject)
async def get(services: Services, call: o.GetObject) -> bytes:
    return b"".join([chunk async for chunk in services.claims.download(call.store, call.id)])
