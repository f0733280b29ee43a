"""``/openapi.json``, ``/docs`` and ``/docs/errors/{code}``: the description of this door, made from its route table.

What lives here: HTML written by hand from the document. Invariant: no script, no style or picture from elsewhere;
everything that comes from the document is escaped, and the content security policy allows nothing but the inline style
by its hash.
"""

import base64
import functools
import hashlib
from collections.abc import Callable, Iterator
from html import escape
from typing import Any

from aiohttp import web

from logbroker import errors
from logbroker.broker.services import Services
from logbroker.http_api.errors import look_up, title_of
from logbroker.http_api.requests import JSON, NoQuery, encode

DOCUMENT: web.AppKey[Callable[[], dict[str, Any]]] = web.AppKey("document")
"""Gives the OpenAPI document; the application sets it, because the table names the handlers of this module."""

_STYLE = """ :root{color-scheme:light dark;--soft:color-mix(in srgb,CanvasText 8%,Canvas);--line:color-mix(in
srgb,CanvasText 20%,Canvas)} body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem 1.5rem
4rem} code,pre{font:14px/1.45 ui-monospace,monospace}h1,h2,h3{line-height:1.2}h2{margin-top:3rem;border-bottom:1px solid
var(--line)} article{border:1px solid var(--line);border-radius:6px;margin:1rem 0;padding:.75rem 1rem}article
h3{margin:0 0 .5rem}
.method{display:inline-block;min-width:4.2rem;font-weight:700}pre{background:var(--soft);padding:.75rem;overflow-x:auto}
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0}
th{font-weight:600}tr+tr td{border-top:1px solid var(--line)}nav a{margin-right:1rem}
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_SECURITY = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


async def openapi(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """The OpenAPI document."""
    return web.Response(body=encode(request.app[DOCUMENT]()), content_type=JSON)


async def overview(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """This interface, for people."""
    return _page("logbroker: HTTP interface", "".join(_operations(request.app[DOCUMENT]())))


async def error_page(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """What an error code means."""
    kind = error_kinds().get(request.match_info["code"])
    if kind is None:
        raise errors.NotFound("there is no error code of that name; /docs lists them")
    status, kafka_code = look_up(kind)
    kafka = "" if kafka_code is None else f"<tr><th>Kafka error</th><td>{kafka_code}</td></tr>"
    body = (
        f"<p>{escape(explanation(kind))}</p><table><tr><th>Code</th><td><code>{kind.code}</code></td></tr>"
        f"<tr><th>HTTP status</th><td>{status}</td></tr>{kafka}"
        f"<tr><th>Trying again can help</th><td>{'yes' if kind.retriable else 'no'}</td></tr></table>"
    )
    return _page(title_of(kind.code), body)


@functools.cache
def error_kinds() -> dict[str, type[errors.LogbrokerError]]:
    """Every error class by its code, parents before children of the same code."""
    kinds = [errors.LogbrokerError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    found: dict[str, type[errors.LogbrokerError]] = {}
    for kind in sorted(kinds, key=lambda kind: kind.code):
        found.setdefault(kind.code, kind)
    return found


def explanation(kind: type[errors.LogbrokerError]) -> str:
    """What an error class says of itself."""
    return " ".join((kind.__doc__ or "").split())


# -- HTML ------------------------------------------------------------------------------------------------------------


def _page(title: str, body: str) -> web.Response:
    html = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f'<nav><a href="/docs">Interface</a><a href="/openapi.json">OpenAPI 3.1</a></nav>'
        f"<h1>{escape(title)}</h1>{body}</body></html>"
    )
    return web.Response(text=html, content_type="text/html", headers=_SECURITY)


def _operations(document: dict[str, Any]) -> Iterator[str]:
    for tag in document["tags"]:
        yield f'<h2 id="{escape(tag["name"])}">{escape(tag["name"].capitalize())}</h2><p>{escape(tag["description"])}</p>'
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if operation["tags"] == [tag["name"]]:
                    yield _operation(method, path, operation)
    yield '<h2 id="schemas">Shapes</h2>'
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield _schema(name, schema)
    yield '<h2 id="errors">Errors</h2><table>'
    for code, kind in error_kinds().items():
        link = f'<a href="/docs/errors/{code}"><code>{code}</code></a>'
        yield f"<tr><td>{link}</td><td>{look_up(kind)[0]}</td><td>{escape(explanation(kind))}</td></tr>"
    yield "</table>"


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(one['name'])}</code></td><td>{escape(one['in'])}</td>"
        f"<td>{_shape(one['schema'])}</td><td>{escape(one.get('description', ''))}</td></tr>"
        for one in operation.get("parameters", [])
    )
    table = f"<table>{rows}</table>" if rows else ""
    body = _contents("Takes", operation.get("requestBody", {}).get("content", {}))
    answers = "".join(
        f"<tr><td>{escape(status)}</td><td>{escape(answer['description'])}</td>"
        f"<td>{_contents('', answer.get('content', {}))}</td></tr>"
        for status, answer in operation["responses"].items()
    )
    return (
        f'<article id="{escape(operation["operationId"])}"><h3><code><span class="method">{method.upper()}</span>'
        f"{escape(path)}</code></h3><p>{escape(operation['summary'])}.</p>{table}{body}<table>{answers}</table></article>"
    )


def _contents(label: str, content: dict[str, Any]) -> str:
    shown = [f"<code>{escape(media)}</code> {_shape(one['schema'])}" for media, one in content.items()]
    return f"<div>{label} {'; '.join(shown)}</div>" if shown else ""


def _schema(name: str, schema: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code></td><td>{_shape(one)}</td><td>{escape(one.get('description', ''))}</td></tr>"
        for field, one in schema.get("properties", {}).items()
    )
    note = escape(schema.get("description", ""))
    return f'<article id="schema-{escape(name)}"><h3>{escape(name)}</h3><p>{note}</p><table>{rows}</table></article>'


def _shape(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#schema-{escape(name)}">{escape(name)}</a>'
    if "anyOf" in schema:
        return " or ".join(_shape(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(choice))}</code>" for choice in schema["enum"])
    if schema.get("type") == "array" and isinstance(schema.get("items"), dict):
        return f"list of {_shape(schema['items'])}"
    shown = escape(str(schema.get("type", "any")))
    return shown + (f" = <code>{escape(str(schema['default']))}</code>" if "default" in schema else "")
