"""Work on many records: redrive, discard, replay; and ``/v1/operations``: how far it is, cancel, resume.

What lives here: selections and progress in JSON. What may not: the work.
"""

from typing import Annotated, Literal, TypeAlias

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from logbroker.broker.operations import Operation, Selection
from logbroker.broker.positions import EARLIEST
from logbroker.broker.services import Services
from logbroker.errors import InvalidRequest
from logbroker.http_api.filters import FilterText
from logbroker.http_api.paging import PageQuery, page_of
from logbroker.http_api.payloads import Encoding
from logbroker.http_api.queue_peek import PeekedOut, peeked_out
from logbroker.http_api.queues import StartIn, confirmed, queue_in, start_of
from logbroker.http_api.requests import NoQuery, json_answer, read_json

MAX_IDS = 10_000

Rate: TypeAlias = Annotated[float, Meta(gt=0, le=1_000_000, description="At most so many a second.")]


class FilterIn(msgspec.Struct, forbid_unknown_fields=True):
    """Which dead letters: those that match every part given. ``error`` is a part of the last error."""

    key: str | UnsetType = UNSET
    headers: dict[str, str] | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    error: str | UnsetType = UNSET


class SelectionIn(msgspec.Struct, forbid_unknown_fields=True):
    """Which dead letters: by ids, by a filter (a CEL expression, or parts that must all be met), or all."""

    ids: Annotated[list[str], Meta(max_length=MAX_IDS)] | UnsetType = UNSET
    filter: FilterText | FilterIn | UnsetType = UNSET
    max: Annotated[int, Meta(ge=1, le=2**63 - 1, description="At most this many.")] | UnsetType = UNSET


class RedriveIn(SelectionIn, forbid_unknown_fields=True):
    """What to send back, and how many a second. A dry run only counts."""

    rate: Rate | UnsetType = UNSET
    dry_run: bool = True
    encoding: Encoding = "auto"


class DiscardIn(SelectionIn, forbid_unknown_fields=True):
    """What to drop; ``confirm`` repeats the name of the queue."""

    confirm: str = ""


class IntoIn(msgspec.Struct, forbid_unknown_fields=True):
    """Where to: exactly one of the two."""

    queue: str | UnsetType = UNSET
    topic: str | UnsetType = UNSET


class ReplayIn(msgspec.Struct, forbid_unknown_fields=True, rename={"from_": "from"}):
    """What to write again, from a position (the start) up to, not including, another (the end as it is now)."""

    into: IntoIn
    from_: StartIn | UnsetType = UNSET
    to: StartIn | UnsetType = UNSET
    filter: FilterText | UnsetType = UNSET
    rate: Rate | UnsetType = UNSET


class ReplayOut(msgspec.Struct):
    """A replay: of each partition of ``topic`` the offsets from ``starts`` up to ``ends``; ``positions`` are done."""

    topic: str
    into: dict[str, str]
    filter: str | None
    starts: list[int]
    ends: list[int]
    positions: list[int]
    missed: int


class OperationOut(msgspec.Struct):
    """An operation. ``matched`` letters or records were meant, ``done`` of them were sent, sent back or dropped."""

    id: str
    kind: str
    queue: str | None
    state: str
    created_ms: int
    ended_ms: int | None
    examined: int
    matched: int
    done: int
    failed: int
    rate: float | None
    error: str | None
    replay: ReplayOut | None = None


class BegunOut(msgspec.Struct):
    """What was begun."""

    operation: OperationOut


class DryRunOut(msgspec.Struct):
    """What would be sent back; ``sample`` shows the first."""

    dry_run: Literal[True]
    matched: int
    sample: list[PeekedOut]


class OperationsOut(msgspec.Struct):
    """A page of operations, the oldest first."""

    items: list[OperationOut]
    next_page_token: str | None


_redrive_decoder = msgspec.json.Decoder(RedriveIn)
_discard_decoder = msgspec.json.Decoder(DiscardIn)
_replay_decoder = msgspec.json.Decoder(ReplayIn)


async def redrive(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Send dead letters back; by default only count them."""
    queue = queue_in(services, request)
    wanted = await read_json(request, _redrive_decoder)
    name, selection = queue.definition.name, selection_of(wanted)
    if wanted.dry_run:
        matched, sample = await services.letter_jobs.count(name, selection)
        return json_answer(DryRunOut(True, matched, [peeked_out(one, wanted.encoding) for one in sample]))
    rate = None if wanted.rate is UNSET else wanted.rate
    return json_answer(BegunOut(operation_out(await services.letter_jobs.begin("redrive", name, selection, rate))), 202)


async def discard(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Drop dead letters for good."""
    queue = queue_in(services, request)
    wanted = await read_json(request, _discard_decoder)
    confirmed(queue, wanted.confirm)
    begun = await services.letter_jobs.begin("discard", queue.definition.name, selection_of(wanted))
    return json_answer(BegunOut(operation_out(begun)), 202)


async def replay(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Write a part of a topic again, into a queue or another topic."""
    topic = services.topics.get(request.match_info["topic"]).name
    wanted = await read_json(request, _replay_decoder)
    start = EARLIEST if wanted.from_ is UNSET else start_of(wanted.from_)
    text = None if wanted.filter is UNSET else wanted.filter
    rate = None if wanted.rate is UNSET else wanted.rate
    into = _target(wanted.into)
    return json_answer(
        BegunOut(
            operation_out(await services.replays.begin(topic, start, start_of(wanted.to), into, text=text, rate=rate))
        ),
        202,
    )


def _target(into: IntoIn) -> tuple[str, str]:
    if into.queue is not UNSET and into.topic is UNSET:
        return "queue", into.queue
    if into.topic is not UNSET and into.queue is UNSET:
        return "topic", into.topic
    raise InvalidRequest("into names a queue or a topic, one of them")


def selection_of(given: SelectionIn) -> Selection:
    """The selection. Raises InvalidRequest."""
    if given.ids is not UNSET and given.filter is not UNSET:
        raise InvalidRequest("give ids or a filter, not both; without either, all are meant")
    limit = None if given.max is UNSET else given.max
    if given.ids is not UNSET:
        return Selection(ids=given.ids, limit=limit)
    if given.filter is UNSET:
        return Selection(limit=limit)
    parts = given.filter
    if isinstance(parts, str):
        return Selection(limit=limit, expression=parts)
    return Selection(
        None if parts.key is UNSET else parts.key.encode(),
        None if parts.headers is UNSET else {name: value.encode() for name, value in parts.headers.items()},
        None if parts.reason is UNSET else parts.reason,
        None if parts.error is UNSET else parts.error,
        limit=limit,
    )


async def list_operations(services: Services, request: web.Request, query: PageQuery) -> web.Response:
    """List operations."""
    page, token = page_of(services.operations.all(), lambda one: one.id, query)
    return json_answer(OperationsOut([operation_out(one) for one in page], token))


async def get_operation(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """How far an operation is."""
    return json_answer(operation_out(services.operations.get(request.match_info["id"])))


async def cancel_operation(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Stop an operation where it is."""
    return json_answer(operation_out(await services.operations.cancel(request.match_info["id"])))


async def resume_operation(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Go on with an operation that was cancelled or has failed."""
    return json_answer(operation_out(await services.operations.resume(request.match_info["id"])))


def operation_out(one: Operation) -> OperationOut:
    """An operation as it is told."""
    names = OperationOut.__struct_fields__[:-1]
    return OperationOut(**{name: getattr(one, name) for name in names}, replay=_replay_told(one))


def _replay_told(one: Operation) -> ReplayOut | None:
    plan, state = one.plan, one.replay
    if plan is None or state is None:
        return None
    into: dict[str, str] = {plan.into.kind: plan.into.name}
    return ReplayOut(plan.topic, into, plan.filter, plan.starts, plan.ends, state.positions, state.missed)
