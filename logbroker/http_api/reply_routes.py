"""The routes of request-reply: a part of the table in ``routes``."""

from logbroker.errors import (
    InvalidRequest,
    InvalidTopic,
    MessageTooLarge,
    NoResponders,
    Recovering,
    RemoteError,
    RequestGone,
    RequestTimeout,
    UnsupportedMediaType,
)
from logbroker.http_api import request_reply
from logbroker.http_api.requests import JSON, OCTETS
from logbroker.http_api.route import BINARY, Route

_SERVICE = "/v1/services/{service}"
_TAKES = (InvalidRequest, InvalidTopic, UnsupportedMediaType, MessageTooLarge)

REPLY_ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        _SERVICE + ":request",
        "request",
        "services",
        request_reply.ask,
        query=request_reply.RequestQuery,
        body={JSON: request_reply.RequestIn, OCTETS: BINARY, "text/plain": BINARY},
        answer={OCTETS: BINARY, JSON: request_reply.ReplyOut},
        errors=(*_TAKES, NoResponders, RequestTimeout, RemoteError, Recovering),
        headers=("Logbroker-Key", "Logbroker-Key-B64"),
        may_break=True,
    ),
    Route(
        "POST",
        _SERVICE + ":serve",
        "serve",
        "services",
        request_reply.serve,
        body={JSON: request_reply.ServeIn},
        answer={JSON: request_reply.ServeOut},
        errors=_TAKES,
        may_break=True,
    ),
    Route(
        "POST",
        "/v1/replies/{token}",
        "reply",
        "services",
        request_reply.reply,
        body={JSON: request_reply.ReplyIn, OCTETS: BINARY, "text/plain": BINARY},
        statuses=(204,),
        errors=(InvalidRequest, UnsupportedMediaType, MessageTooLarge, RequestGone),
    ),
)
