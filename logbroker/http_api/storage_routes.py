"""The routes of the files below the log: a part of the table in ``routes``."""

from logbroker.errors import InvalidRequest, InvalidTopic, NotSupported, UnknownTopicOrPartition, UnsupportedMediaType
from logbroker.http_api import storage
from logbroker.http_api.operations import BegunOut
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
        storage.list_segments,
        query=PageQuery,
        answer={JSON: storage.SegmentsOut},
        errors=_READS,
    ),
    Route(
        "GET",
        _SEGMENTS + "/{offset}",
        "get_segment",
        "storage",
        storage.get_segment,
        query=storage.SegmentQuery,
        answer={JSON: storage.SegmentPageOut},
        errors=_READS,
    ),
    Route(
        "POST",
        "/v1/storage:verify",
        "verify_storage",
        "storage",
        storage.verify,
        body={JSON: storage.VerifyIn},
        answer={JSON: BegunOut},
        statuses=(202,),
        errors=(*_READS, UnsupportedMediaType),
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
