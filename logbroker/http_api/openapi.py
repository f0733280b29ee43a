"""The OpenAPI 3.1 document, made from the route table and the msgspec types it names.

What lives here: pure functions from routes to a document. Invariant: nothing is described here that the table does not say.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec

import logbroker
from logbroker.errors import LogbrokerError
from logbroker.http_api.errors import PROBLEM, look_up
from logbroker.http_api.route import BINARY, Route, parameters

_TEMPLATE = "#/components/schemas/{name}"
_TAGS = {
    "records": "Write records and read them back.",
    "topics": "Topics, their settings and their partitions.",
    "groups": "Consumer groups: members that share partitions, committed offsets, lag.",
    "transactions": "Transactions of Kafka producers: what is open, since when, and how to end it.",
    "queues": "Work queues: leases, retries, dead letters, priorities, delays.",
    "objects": "Payloads too large for the log, kept in a store and named by records (claim check).",
    "subscriptions": "Independent readers of a topic: filters, leases, retries, dead letters, seeking, snapshots.",
    "services": "Request-reply: a question asked through the log, and one answer.",
    "operations": "Work on many messages that goes on by itself.",
    "storage": "The files below the log.",
    "admin": "The broker itself.",
    "docs": "This description.",
}
_PATH_PARAMETERS: Mapping[str, dict[str, Any]] = {
    "topic": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,249}$"},
    "partition": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
    "offset": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
    "code": {"type": "string", "pattern": "^[A-Z_]+$"},
    "queue": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,243}$"},
    "subscription": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,243}$"},
    "snapshot": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,249}$"},
    "id": {"type": "string", "minLength": 1},
    "group": {"type": "string", "minLength": 1},
    "transaction": {"type": "string", "minLength": 1},
    "member": {"type": "string", "minLength": 1},
    "service": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,239}$"},
    "token": {"type": "string", "minLength": 1},
    "store": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$"},
    "object": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
}


class Pointed(msgspec.Struct):
    """One thing that is wrong in a request, by JSON pointer."""

    pointer: str
    detail: str


class Problem(msgspec.Struct):
    """What went wrong (RFC 9457); ``code`` is stable and /docs/errors/{code} explains it. More fields may be there."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    retriable: bool
    request_id: str
    kafka_code: int | None = None
    errors: list[Pointed] = []


def openapi_document(routes: Iterable[Route]) -> dict[str, Any]:
    """The document as JSON values."""
    routes = tuple(routes)
    schemas = _Schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "logbroker",
            "version": logbroker.__version__,
            "description": "A durable log over HTTP. Times are milliseconds since the epoch, sizes are bytes.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {"schemas": schemas.components},
    }


class _Schemas:
    """JSON schemas of all types of a table; components are shared."""

    def __init__(self, routes: Iterable[Route]) -> None:
        types: list[Any] = [Problem]
        for route in routes:
            for kinds in (route.query, *route.body.values(), *route.answer.values()):
                types += kinds if isinstance(kinds, tuple) else [kinds]
        self._types = [kind for kind in types if kind is not BINARY]
        made = msgspec.json.schema_components(self._types, ref_template=_TEMPLATE)
        schemas, self.components = msgspec.json.decode(msgspec.json.encode(made))  # defaults as JSON has them
        self._schemas = dict(zip(map(repr, self._types), schemas, strict=True))
        self._queries = {route.query.__name__ for route in routes}
        self._components = dict(self.components)
        for name in self._queries:
            self.components.pop(name, None)

    def of(self, kind: Any) -> dict[str, Any]:
        """The schema of a type (of any of them, for a tuple), by reference where it has a name."""
        if isinstance(kind, tuple):
            return {"anyOf": [self.of(one) for one in kind]}
        return {} if kind is BINARY else dict(self._schemas[repr(kind)])

    def properties(self, query: type) -> dict[str, Any]:
        """The properties of a query type, by name."""
        found: dict[str, Any] = self._components[query.__name__]["properties"]
        return found


def _operation(route: Route, schemas: _Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": route.name, "summary": route.summary, "tags": [route.tag]}
    given = [*_path_parameters(route), *_query_parameters(route, schemas), *_header_parameters(route)]
    if given:
        operation["parameters"] = given
    if route.body:
        operation["requestBody"] = {"required": True, "content": _content(route.body, schemas)}
    operation["responses"] = _responses(route, schemas)
    return operation


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _PATH_PARAMETERS[name]} for name in parameters(route.path)
    ]


def _query_parameters(route: Route, schemas: _Schemas) -> list[dict[str, Any]]:
    described = []
    for name, schema in schemas.properties(route.query).items():
        schema = dict(schema)
        parameter: dict[str, Any] = {"name": name, "in": "query", "required": False}
        if "description" in schema:
            parameter["description"] = schema.pop("description")
        described.append({**parameter, "schema": schema})
    return described


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    return [{"name": name, "in": "header", "required": False, "schema": {"type": "string"}} for name in route.headers]


def _responses(route: Route, schemas: _Schemas) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status in route.statuses:
        responses[str(status)] = {"description": HTTPStatus(status).phrase}
        if route.answer:
            responses[str(status)]["content"] = _content(route.answer, schemas)
    for status, codes in sorted(_by_status(route.errors).items()):
        responses.setdefault(str(status), _problem(", ".join(codes), schemas))
    responses["default"] = _problem("Any other problem", schemas)
    return responses


def _by_status(errors: Iterable[type[LogbrokerError]]) -> dict[int, list[str]]:
    grouped: dict[int, list[str]] = {}
    for error in errors:
        grouped.setdefault(look_up(error)[0], []).append(error.code)
    return grouped


def _problem(description: str, schemas: _Schemas) -> dict[str, Any]:
    return {"description": description, "content": {PROBLEM: {"schema": schemas.of(Problem)}}}


def _content(types: Mapping[str, Any], schemas: _Schemas) -> dict[str, Any]:
    return {media: {"schema": schemas.of(kind)} for media, kind in types.items()}
