"""The files below the log: copies for a backup.

What lives here: questions and acts that name files. What may not: paths that a client has chosen.
"""

from pathlib import Path

import msgspec
from aiohttp import web

from logbroker.broker.services import Services
from logbroker.engine.api import FrozenCopy, Storage
from logbroker.errors import NotSupported
from logbroker.http_api.requests import NoQuery, json_answer


class FrozenOut(msgspec.Struct):
    """A copy of everything as of one moment, in ``directory`` of the broker's machine."""

    id: str
    directory: str
    created_ms: int
    files: int
    bytes: int


def storage_of(services: Services) -> Storage:
    """The files of the engine. Raises NotSupported where it has none of its own."""
    storage = services.engine.storage
    if storage is None:
        raise NotSupported("the engine of this broker has no files of its own")
    return storage


async def freeze(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Keep all files as they are now, for a backup to copy."""
    copy = await storage_of(services).freeze()
    return json_answer(FrozenOut(copy.id, _directory_of(services, copy), copy.created_ms, copy.files, copy.bytes), 201)


def _directory_of(services: Services, copy: FrozenCopy) -> str:
    return str(Path(services.config.data_dir).absolute() / copy.path)


async def release(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Let such a copy go."""
    await storage_of(services).release(request.match_info["id"])
    return web.Response(status=204)
