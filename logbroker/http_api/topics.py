"""Topics: ``/v1/topics`` and ``/v1/topics/{topic}``: list, create or replace, describe, change, delete, trim.

What lives here: declarations in JSON and their conditions (ETag, If-Match, ``replace``). What may not: the rules, which
are the use cases' own.
"""

from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from logbroker.broker.services import Services
from logbroker.broker.topics import TopicSize, kind_of
from logbroker.config import TOPIC_SETTINGS, TopicConfig
from logbroker.engine.api import TopicInfo
from logbroker.errors import UnknownTopicOrPartition
from logbroker.http_api.paging import PageQuery, page_of
from logbroker.http_api.requests import NoQuery, etag, if_match, json_answer, read_json

Partitions = Annotated[int, Meta(ge=1, le=2**31 - 1, description="How many partitions.")]
Config = Annotated[dict[str, Any], Meta(description="Settings of the topic; /v1/topics/{topic}/config explains each.")]


class TopicsQuery(PageQuery, frozen=True):
    """Which topics to list."""

    prefix: Annotated[str, Meta(description="Only names that start with this.")] = ""
    internal: Annotated[bool, Meta(description="Also logbroker's own topics.")] = False


class TopicItem(msgspec.Struct):
    """A topic in a list. ``bytes`` is null where the engine cannot tell; damaged partitions are not part of the sums."""

    name: str
    kind: str
    partitions: int
    records: int
    bytes: int | None
    damaged_partitions: int


class TopicsOut(msgspec.Struct):
    """A page of topics, by name."""

    items: list[TopicItem]
    next_page_token: str | None


class TopicIn(msgspec.Struct, forbid_unknown_fields=True):
    """A topic as it should be."""

    partitions: Partitions | None = None
    config: Config = {}


class TopicPatch(msgspec.Struct, forbid_unknown_fields=True):
    """Changes of a topic, as a JSON merge patch: a setting to null goes back to its default, config to null all of them."""

    partitions: Partitions | UnsetType = UNSET
    config: Config | UnsetType | None = UNSET


class TopicOut(msgspec.Struct):
    """A topic. ``config`` holds the settings given for it; /v1/topics/{topic}/config those in force."""

    name: str
    id: str
    kind: str
    partitions: int
    records: int
    bytes: int | None
    damaged_partitions: int
    created_ms: int
    owner: str | None
    config: dict[str, Any]


class PutQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to do about a topic that is declared differently."""

    replace: Annotated[bool, Meta(description="Replace its declaration.")] = False


class DeleteQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to do about a topic that is not there."""

    missing_ok: Annotated[bool, Meta(description="Answer 204 then too.")] = False


class SettingOut(msgspec.Struct):
    """A setting in force, where it comes from (default, server or topic) and what it does."""

    value: Any
    source: str
    doc: str


class ConfigOut(msgspec.Struct):
    """Every setting of a topic by name."""

    config: dict[str, SettingOut]


_topic_decoder = msgspec.json.Decoder(TopicIn)
_patch_decoder = msgspec.json.Decoder(TopicPatch)


async def list_topics(services: Services, request: web.Request, query: TopicsQuery) -> web.Response:
    """List topics."""
    infos, token = page_of(services.topics.list(query.prefix, internal=query.internal), lambda info: info.name, query)
    items = [TopicItem(info.name, kind_of(info), info.partitions, *await services.topics.size(info)) for info in infos]
    return json_answer(TopicsOut(items, token))


async def put_topic(services: Services, request: web.Request, query: PutQuery) -> web.Response:
    """Create a topic, or make sure that it is as declared."""
    wanted = await read_json(request, _topic_decoder)
    guard = if_match(request) or ((lambda info: None) if query.replace else None)
    info, created = await services.topics.ensure(
        request.match_info["topic"], wanted.partitions, wanted.config, replace=guard
    )
    return await _described(services, info, 201 if created else 200)


async def get_topic(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Describe a topic."""
    return await _described(services, services.topics.get(request.match_info["topic"]), 200)


async def patch_topic(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Grow a topic or change its settings."""
    patch = await read_json(request, _patch_decoder)
    name = request.match_info["topic"]
    partitions = None if patch.partitions is UNSET else patch.partitions
    changes: dict[str, Any] = {}
    if patch.config is None:
        changes = dict.fromkeys(services.topics.changeable(name).overrides)
    elif patch.config is not UNSET:
        changes = patch.config
    info = await services.topics.alter(name, partitions, changes, guard=if_match(request))
    return await _described(services, info, 200)


async def delete_topic(services: Services, request: web.Request, query: DeleteQuery) -> web.Response:
    """Delete a topic and its records."""
    try:
        await services.topics.delete(request.match_info["topic"], guard=if_match(request))
    except UnknownTopicOrPartition:
        if not query.missing_ok:
            raise
    return web.Response(status=204)


async def get_config(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Every setting of a topic, with its source and meaning."""
    info = services.topics.get(request.match_info["topic"])
    settings = {
        name: SettingOut(getattr(info.config, name), source_of(info, name), setting.doc)
        for name, setting in TOPIC_SETTINGS.items()
    }
    return json_answer(ConfigOut(settings), headers={"ETag": etag(info)})


def source_of(info: TopicInfo, name: str) -> str:
    """Where the value of a setting comes from: the topic, the server's configuration, or the default."""
    if name in info.overrides:
        return "topic"
    return "default" if getattr(info.config, name) == getattr(TopicConfig(), name) else "server"


async def topic_out(services: Services, info: TopicInfo) -> TopicOut:
    """A topic as it is told."""
    size: TopicSize = await services.topics.size(info)
    return TopicOut(
        name=info.name,
        id=str(info.id),
        kind=kind_of(info),
        partitions=info.partitions,
        records=size.records,
        bytes=size.bytes,
        damaged_partitions=size.damaged_partitions,
        created_ms=info.created_ms,
        owner=info.owner,
        config=dict(info.overrides),
    )


async def _described(services: Services, info: TopicInfo, status: int) -> web.Response:
    return json_answer(await topic_out(services, info), status, {"ETag": etag(info)})
