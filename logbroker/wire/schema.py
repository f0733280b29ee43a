"""The cold APIs: every message but Produce and Fetch, coded from Kafka's own message definitions.

What lives here: the choice of the definition for an API, and the cache of compiled codecs. What may not: layouts, handlers.
Invariant: a codec is compiled at its first use and only for the version used; nothing is read at import.

    request = decode_request(Api.METADATA, 12, body)          # request.topics[0].name; absent fields at their default
    body = encode_response(Api.METADATA, 12, brokers=[{"node_id": 0, "host": "localhost", "port": 9092}], ...)

Field names are those of the definitions in snake case. Uuids are `uuid.UUID`, ``NO_UUID`` for none; arrays are tuples.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from logbroker.errors import InvalidRequest
from logbroker.wire.apis import Api
from logbroker.wire.decoder import compile_decoder
from logbroker.wire.definitions import load_definition
from logbroker.wire.encoder import compile_encoder


def decode_request(api: Api, version: int, body: memoryview) -> Any:
    """The request as a named tuple; it keeps no view of ``body``. Raises InvalidRequest. ``version`` must be served."""
    try:
        return _decoder(f"{api.message_name}Request", version)(body)
    except InvalidRequest as error:
        raise InvalidRequest(f"{api.message_name} v{version}: {error.detail}") from None


def encode_response(api: Api, version: int, /, **fields: Any) -> bytearray:
    """The body of a response. What is not given is its default. Raises TypeError for a field that does not exist."""
    return _encoder(f"{api.message_name}Response", version)(fields)


@cache
def _decoder(name: str, version: int) -> Callable[[memoryview], Any]:
    return compile_decoder(load_definition(name), version)


@cache
def _encoder(name: str, version: int) -> Callable[[Mapping[str, Any]], bytearray]:
    return compile_encoder(load_definition(name), version)
