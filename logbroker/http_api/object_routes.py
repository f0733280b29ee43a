"""The routes of stored payloads: a part of the table in ``routes``."""

from logbroker.errors import ClaimInvalid, MessageTooLarge, ObjectNotFound, StorageError, StoreNotFound
from logbroker.http_api import objects
from logbroker.http_api.requests import JSON, OCTETS
from logbroker.http_api.route import BINARY, Route

_OBJECTS = "/v1/stores/{store}/objects"
_FINDS = (ClaimInvalid, StoreNotFound)

OBJECT_ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        _OBJECTS,
        "put_object",
        "objects",
        objects.put_object,
        body={OCTETS: BINARY},
        answer={JSON: objects.ClaimOut},
        statuses=(201,),
        errors=(*_FINDS, MessageTooLarge, StorageError),
    ),
    Route(
        "GET",
        _OBJECTS + "/{object}",
        "get_object",
        "objects",
        objects.get_object,
        answer={OCTETS: BINARY},
        errors=(*_FINDS, ObjectNotFound),
    ),
)
