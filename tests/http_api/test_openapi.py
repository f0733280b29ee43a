"""The description of the door: valid, complete, and true when a tool that believes it makes requests from it."""

import re
from typing import Any

import pytest
from aiohttp import web
from openapi_spec_validator import validate

from logbroker.http_api.app import create_app
from logbroker.http_api.docs import error_kinds
from logbroker.http_api.openapi import openapi_document
from logbroker.http_api.routes import ROUTES
from tests.http_api.conftest import Door

DOCUMENT = openapi_document(ROUTES)


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, one) for path, methods in DOCUMENT["paths"].items() for method, one in methods.items()]


def test_the_document_is_valid_openapi() -> None:
    validate(DOCUMENT)


@pytest.mark.asyncio
async def test_the_router_the_table_and_the_document_name_the_same_routes(door: Door) -> None:
    table = {(route.method, route.path) for route in ROUTES}
    documented = {(method.upper(), path) for method, path, _ in operations()}
    app: web.Application = create_app(door.services)
    routed = {
        (route.method, re.sub(r"\{(\w+):[^}]*\}", r"{\1}", route.resource.canonical if route.resource else ""))
        for route in app.router.routes()
    }
    assert table == documented == routed


def test_every_operation_has_a_name_a_summary_and_described_answers() -> None:
    names = [one["operationId"] for _, _, one in operations()]
    assert len(set(names)) == len(names)
    for _, path, one in operations():
        assert one["summary"], path
        assert one["responses"]["default"]["content"].keys() == {"application/problem+json"}


def test_every_reference_points_to_a_component() -> None:
    referred = set(re.findall(r"#/components/schemas/(\w+)", repr(DOCUMENT)))
    assert referred <= DOCUMENT["components"]["schemas"].keys()


@pytest.mark.asyncio
async def test_the_docs_page_shows_every_operation_and_error_and_loads_nothing(door: Door) -> None:
    answer = await door("GET", "/docs")
    page = answer.body.decode()
    for _, _, operation in operations():
        assert f'id="{operation["operationId"]}"' in page
    for code in error_kinds():
        assert f'href="/docs/errors/{code}"' in page
    assert not re.search(r"https?://", page)
    assert "<script" not in page
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


@pytest.mark.asyncio
async def test_every_error_code_has_its_page(door: Door) -> None:
    for code, kind in error_kinds().items():
        answer = await door("GET", f"/docs/errors/{code}")
        assert answer.status == 200
        assert code in answer.body.decode(), kind


@pytest.mark.asyncio
async def test_the_document_is_served(door: Door) -> None:
    assert (await door("GET", "/openapi.json")).json == DOCUMENT
