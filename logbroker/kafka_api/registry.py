"""Which handler serves which API, and what becomes of a request that cannot be served.

What lives here: the frame around every handler: decode, call, encode, and an answer when one of them fails. What may not:
what any API means. Invariants: every API of the table in ``wire.apis`` has a handler; whatever a handler raises, the client
gets an answer of its API with an error code; only where the protocol has no place for one is the connection closed.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from logbroker.broker.services import Services
from logbroker.errors import InvalidRequest, LogbrokerError
from logbroker.kafka_api import versions
from logbroker.kafka_api.answers import Answer, Context, Disconnect, Reply, Task
from logbroker.kafka_api.errors import code_of, message_of
from logbroker.wire.apis import Api
from logbroker.wire.codes import ErrorCode
from logbroker.wire.definitions import load_definition
from logbroker.wire.header import RequestHeader
from logbroker.wire.schema import decode_request, encode_response

log = logging.getLogger("logbroker.kafka")

Fields: TypeAlias = dict[str, Any]
ColdHandler: TypeAlias = Callable[[Services, Any, Context], Fields | Awaitable[Fields]]
HotHandler: TypeAlias = Callable[[Services, memoryview, Context], Answer]
Refusal: TypeAlias = Callable[[Any, ErrorCode, str], Fields]
"""Makes the fields of an answer that says of everything that was asked that it failed."""


class Cold(NamedTuple):
    """How an API that goes through the schemas is served. Without ``refuse``, a failure goes into the top-level code."""

    handle: ColdHandler
    refuse: Refusal | None = None


class Hot(NamedTuple):
    """How an API that is coded by hand is served: it answers what it foresees by itself, and by ``refuse`` what not."""

    handle: HotHandler
    refuse: Callable[[memoryview, Context, Exception], Reply]


class Registry:
    """The handlers by API."""

    def __init__(self, handlers: Mapping[Api, Cold | Hot]) -> None:
        self._handlers: Final = dict(handlers)
        self.running: Final[set[asyncio.Task[None]]] = set()
        """Requests that wait, whether or not their clients still do."""

    def answer(self, services: Services, header: RequestHeader, body: memoryview, context: Context) -> Answer:
        """Serve one request. Raises Disconnect where there is no way to answer."""
        api = header.api
        if api is None:
            raise Disconnect(f"there is no API with key {header.api_key}")
        if not api.min_version <= header.api_version <= api.max_version:
            if api is Api.API_VERSIONS:
                return Reply([encode_response(api, 0, **versions.unsupported())], ErrorCode.UNSUPPORTED_VERSION)
            raise Disconnect(
                f"{api.message_name} v{header.api_version} is not served, only {api.min_version} to {api.max_version}"
            )
        handler = self._handlers[api]
        if isinstance(handler, Hot):
            return _answer_hot(handler, services, body, context, api)
        return _Call(api, handler, context, self.running).answer(services, body)


def _answer_hot(handler: Hot, services: Services, body: memoryview, context: Context, api: Api) -> Answer:
    try:
        return handler.handle(services, body, context)
    except InvalidRequest as error:
        raise Disconnect(f"{api.message_name} v{context.version}: {error.detail}") from None
    except Disconnect:
        raise
    except Exception as error:
        log.exception("%s v%d failed", api.message_name, context.version)
        return handler.refuse(body, context, error)


class _Call(NamedTuple):
    """One request to a cold API."""

    api: Api
    handler: Cold
    context: Context
    running: set[asyncio.Task[None]]

    def answer(self, services: Services, body: memoryview) -> Answer:
        request = None
        try:
            request = decode_request(self.api, self.context.version, body)
            result = self.handler.handle(services, request, self.context)
            if isinstance(result, dict):
                return self._encoded(result)
            return Task(self._awaited(result, request), self.running)
        except Disconnect:
            raise
        except Exception as error:
            return self._refused(request, error)

    async def _awaited(self, result: Awaitable[Fields], request: Any) -> Reply:
        try:
            return self._encoded(await result)
        except Exception as error:
            return self._refused(request, error)

    def _encoded(self, fields: Fields) -> Reply:
        code = fields.get("error_code", ErrorCode.NONE)
        return Reply([encode_response(self.api, self.context.version, **fields)], ErrorCode(code))

    def _refused(self, request: Any, error: Exception) -> Reply:
        name, version = self.api.message_name, self.context.version
        if not isinstance(error, LogbrokerError):
            log.error("%s v%d failed", name, version, exc_info=error)
        code = code_of(error)
        if self.handler.refuse is not None and request is not None:
            fields = self.handler.refuse(request, code, message_of(error))
        else:
            places = {field.name for field in load_definition(f"{name}Response").fields if field.versions.covers(version)}
            if "error_code" not in places:
                raise Disconnect(f"{name} v{version}: {message_of(error)}")
            fields = {"error_code": code}
            if "error_message" in places:
                fields["error_message"] = message_of(error)
        return Reply([encode_response(self.api, version, **fields)], code)
