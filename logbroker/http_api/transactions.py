"""Transactions as administrators see them: list, describe, abort.

What lives here: transactional ids in JSON. What may not: transactions of HTTP clients, for there are none: transactions are
written through the Kafka door. Invariant: looking changes nothing.
"""

from typing import Annotated, Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from logbroker.broker.services import Services
from logbroker.groups.transactions.messages import TransactionView
from logbroker.http_api.group_targets import PartitionRef
from logbroker.http_api.paging import PageQuery, page_of
from logbroker.http_api.requests import NoQuery, json_answer


class TransactionsQuery(PageQuery, frozen=True):
    """Which transactional ids to list."""

    prefix: Annotated[str, Meta(description="Only ids that start with this.")] = ""
    state: Annotated[
        Literal["Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort"] | UnsetType,
        Meta(description="Only ids in this state. Ongoing ones hold committed readers up."),
    ] = UNSET


class TransactionOut(msgspec.Struct):
    """A transactional id and its open transaction; ``started_ms`` and ``age_ms`` are null where none is open."""

    transactional_id: str
    state: str
    producer_id: int
    epoch: int
    timeout_ms: int
    started_ms: int | None
    age_ms: int | None
    updated_ms: int
    partitions: list[PartitionRef]
    groups: list[str]


class TransactionsOut(msgspec.Struct):
    """A page of transactional ids, by name."""

    items: list[TransactionOut]
    next_page_token: str | None


def _out(services: Services, view: TransactionView) -> TransactionOut:
    started_ms = view.started_ms
    return TransactionOut(
        view.transactional_id,
        view.status.value,
        view.producer.id,
        view.producer.epoch,
        view.timeout_ms,
        started_ms,
        None if started_ms is None else max(services.clock.now().wall_ms - started_ms, 0),
        view.updated_ms,
        [PartitionRef(*where) for where in view.partitions],
        list(view.groups),
    )


async def list_transactions(services: Services, request: web.Request, query: TransactionsQuery) -> web.Response:
    """List transactional ids and their open transactions."""
    listed = [
        one
        for one in services.transactions.list_transactions()
        if one.transactional_id.startswith(query.prefix) and query.state in (UNSET, one.status.value)
    ]
    page, token = page_of(listed, lambda one: one.transactional_id, query)
    return json_answer(TransactionsOut([_out(services, one) for one in page], token))


async def get_transaction(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Describe a transactional id and its open transaction."""
    return json_answer(_out(services, services.transactions.describe(request.match_info["transaction"])))


async def abort_transaction(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Abort an open transaction and fence its producer."""
    name = request.match_info["transaction"]
    await services.transactions.abort(name)
    return json_answer(_out(services, services.transactions.describe(name)))
