"""The routes of the files below the log: a part of the table in ``routes``."""

from logbroker.errors import InvalidRequest, InvalidTopic, NotSupported, UnknownTopicOrPartition
from logbroker.http_api import partitions, storage
from logbroker.http_api.paging import PageQuery
from logbroker.http_api.requests import JSON
from logbroker.http_api.route import Route

_SEGMENTS = "/v1/storage/{topic}/{partition}/segments"
_READS = (InvalidRequest, InvalidTopic, UnknownTopicOrPartition, NotSupported)

STORAGE_ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        _SEGMENTS,
        "list_segments",
        "storage",
        partitions.list_segments,
        query=PageQuery,
        answer={JSON: partitions.SegmentsOut},
        errors=_READS,
    ),
    Route(
        "POST",
        "/v1/storage:freeze",
        "freeze",
        "storage",
        storage.freeze,
        answer={JSON: storage.FrozenOut},
        statuses=(201,),
        errors=(NotSupported,),
    ),
    Route(
        "DELETE",
        "/v1/storage/frozen/{id}",
        "release_frozen",
        "storage",
        storage.release,
        statuses=(204,),
        errors=(NotSupported,),
    ),
)
