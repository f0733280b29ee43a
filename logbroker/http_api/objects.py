"""Stored payloads over HTTP: bring one, fetch one, and produce one record that stands for one.

What lives here: streams in and out. What may not: stores. Invariant: a body is passed on as it comes; the memory it takes
does not depend on its size.
"""

from collections.abc import Mapping

import msgspec
from aiohttp import web

from logbroker.broker.services import Services
from logbroker.claims.reference import Claim
from logbroker.errors import MessageTooLarge
from logbroker.http_api.errors import REQUEST_ID
from logbroker.http_api.fetch import INERT
from logbroker.http_api.requests import OCTETS, NoQuery, json_answer, read_body

CLAIM_STORE = "Logbroker-Claim-Store"
_CHUNK = 256 * 1024


class ClaimOut(msgspec.Struct):
    """The reference to a stored payload."""

    store: str
    id: str
    size: int
    sha256: str


async def put_object(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Keep the body as a payload; records may refer to it within a day."""
    claim = await _uploaded(services, request, request.match_info["store"])
    return json_answer(ClaimOut(claim.store, claim.id, claim.size, claim.sha256), 201)


async def get_object(services: Services, request: web.Request, query: NoQuery) -> web.StreamResponse:
    """Fetch a payload; the reference tells what its SHA-256 has to be."""
    store, object_id = request.match_info["store"], request.match_info["object"]
    size = await services.claims.size(store, object_id)
    answer = web.StreamResponse(headers={"Content-Type": OCTETS, "X-Request-Id": request[REQUEST_ID], **INERT})
    answer.content_length = size
    chunks = services.claims.download(store, object_id)
    await answer.prepare(request)
    async for chunk in chunks:
        await answer.write(chunk)
    await answer.write_eof()
    return answer


async def body_or_claim(services: Services, request: web.Request) -> tuple[Mapping[str, str], bytes, Claim | None]:
    """Headers and body of a raw record; where a header names a store, the body is kept there and what it got is told."""
    headers = request.headers.copy()
    store = headers.pop(CLAIM_STORE, None)
    if store is None:
        return headers, await read_body(request), None
    return headers, b"", await _uploaded(services, request, store)


async def _uploaded(services: Services, request: web.Request, store: str) -> Claim:
    limit, length = services.config.claim_max_bytes, request.content_length
    if length is not None and length > limit:
        raise MessageTooLarge(f"the payload has {length} bytes; claim_max_bytes is {limit}")
    return await services.claims.upload(store, request.content.iter_chunked(_CHUNK))
