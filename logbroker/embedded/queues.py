"""Queues, their messages and dead letters, in process."""

from collections.abc import Sequence

from logbroker.broker.queue_sends import QueueMessage
from logbroker.broker.services import Services
from logbroker.client.calls import letters as d
from logbroker.client.calls import messages as m
from logbroker.client.calls import queues as q
from logbroker.client.calls.base import Page, given
from logbroker.client.payloads import Headers
from logbroker.client.problems import refuse_if_all_failed
from logbroker.config import INT64_MAX
from logbroker.embedded.handlers import carries_out, checked, told, whole
from logbroker.errors import LogbrokerError, QueueNotFound
from logbroker.http_api.operations import DiscardIn, RedriveIn, operation_out, selection_of
from logbroker.http_api.queue_messages import ExtendEntry, NackEntry, ReceiveIn, RejectEntry, check_lease
from logbroker.http_api.queue_payloads import MessageIn
from logbroker.http_api.queue_peek import PeekQuery, cursor_from, cursor_token, filter_of, peeked_out
from logbroker.http_api.queues import QueueIn, queue_out, start_of
from logbroker.queues.dispatcher import Dispatcher, Received, Sent, Want
from logbroker.queues.dispatcher.peeking import Cursor
from logbroker.queues.peeks import MessageState, Peeked
from logbroker.queues.positions import Receipt
from logbroker.queues.settings import QueueSettings


@carries_out(q.PutQueue)
async def put_queue(services: Services, call: q.PutQueue) -> q.QueueInfo:
    wanted = checked(QueueIn, {**call.settings, **given(start=call.start)})
    settings = QueueSettings(**{name: getattr(wanted, name) for name in QueueSettings.__struct_fields__})
    queue, _ = await services.queues.ensure(call.name, settings, start_of(wanted.start))
    return told(await queue_out(services, queue), q.QueueInfo)


@carries_out(q.GetQueue)
async def get_queue(services: Services, call: q.GetQueue) -> q.QueueInfo:
    return told(await queue_out(services, services.queues.get(call.name)), q.QueueInfo)


@carries_out(q.ListQueues)
async def list_queues(services: Services, call: q.ListQueues) -> Page[q.QueueInfo]:
    return whole([told(await queue_out(services, queue), q.QueueInfo) for queue in services.queues.list(call.prefix)])


@carries_out(q.PatchQueue)
async def patch_queue(services: Services, call: q.PatchQueue) -> q.QueueInfo:
    queue = await services.queues.alter(call.name, call.changes)
    return told(await queue_out(services, queue), q.QueueInfo)


@carries_out(q.DeleteQueue)
async def delete_queue(services: Services, call: q.DeleteQueue) -> None:
    try:
        await services.queues.delete(call.name, keep_topic=call.keep_topic)
    except QueueNotFound:
        if not call.missing_ok:
            raise


@carries_out(q.ListConsumers)
async def list_consumers(services: Services, call: q.ListConsumers) -> Page[q.QueueConsumer]:
    queue = services.queues.get(call.queue)
    held = queue.in_flight_of()
    return whole(
        [
            q.QueueConsumer(one.name, one.received, one.processed, one.errors, held.get(one.name, 0), one.last_seen_ms)
            for one in sorted(queue.tally.consumers.values(), key=lambda one: one.name)
        ]
    )


@carries_out(q.Purge)
async def purge(services: Services, call: q.Purge) -> None:
    await services.queues.get(call.queue).purge(call.before_ms)


@carries_out(q.SetPaused)
async def set_paused(services: Services, call: q.SetPaused) -> None:
    await services.queues.set_paused(call.queue, paused=call.paused)


# -- messages ----------------------------------------------------------------------------------------------------------


@carries_out(m.Send)
async def send(services: Services, call: m.Send) -> list[m.SentMessage | LogbrokerError]:
    now_ms = services.clock.now().wall_ms
    messages = [_message(one, now_ms) for one in call.messages]
    outcomes = await services.queue_sends.send(call.queue, messages)
    refuse_if_all_failed(outcomes)
    return [
        m.SentMessage(str(one.id), one.partition, one.offset, one.duplicate) if isinstance(one, Sent) else one
        for one in outcomes
    ]


def _message(one: m.OutgoingMessage, now_ms: int) -> QueueMessage:
    checked(
        MessageIn, given(priority=one.priority, delay_ms=one.delay_ms, dedup_id=one.dedup_id, message_ttl_ms=one.ttl_ms)
    )
    due_ms = None if one.delay_ms is None else min(INT64_MAX, now_ms + one.delay_ms)
    return QueueMessage(one.record, one.priority, due_ms, one.dedup_id, one.ttl_ms)


def _view(services: Services, name: str, kind: m.Kind) -> Dispatcher:
    return services.queues.get(name) if kind == "queues" else services.subscriptions.get(name)


@carries_out(m.Receive)
async def receive(services: Services, call: m.Receive) -> list[m.Delivery]:
    queue = _view(services, call.queue, call.kind)
    checked(
        ReceiveIn,
        given(
            max=call.limit,
            wait_ms=call.wait_ms,
            consumer=call.consumer,
            receive_attempt_id=call.attempt_id,
            visibility_timeout_ms=call.visibility_timeout_ms,
        ),
    )
    want = Want(call.limit, call.visibility_timeout_ms, call.consumer, call.attempt_id)
    return [_delivery(one) for one in await queue.receive(want, call.wait_ms)]


def _delivery(one: Received) -> m.Delivery:
    return m.Delivery(
        str(one.id),
        str(one.receipt),
        one.receipt_expires_ms,
        one.deliveries,
        one.failures,
        one.last_error,
        one.priority,
        one.timestamp_ms,
        one.partition,
        one.offset,
        one.key,
        one.value,
        Headers(one.headers),
    )


@carries_out(m.Settle)
async def settle(services: Services, call: m.Settle) -> list[m.Settled | LogbrokerError]:
    queue = _view(services, call.queue, call.kind)
    _check(call)
    receipts = [Receipt.parse(one.receipt) for one in call.entries]
    outcomes: Sequence[m.Settled | LogbrokerError]
    if call.verb == "ack":
        outcomes = await queue.settle.ack(receipts)
    elif call.verb == "release":
        outcomes = await queue.settle.release(receipts)
    elif call.verb == "nack":
        failed = [(at, one.delay_ms, one.error) for at, one in zip(receipts, call.entries, strict=True)]
        outcomes = await queue.settle.nack(failed)
    elif call.verb == "reject":
        rejected = [(at, one.error or "") for at, one in zip(receipts, call.entries, strict=True)]
        outcomes = await queue.settle.reject(rejected)
    else:
        outcomes = await queue.settle.extend([(at, one.lease_ms) for at, one in zip(receipts, call.entries, strict=True)])
    refuse_if_all_failed(outcomes)
    return list(outcomes)


def _check(call: m.Settle) -> None:
    for index, one in enumerate(call.entries):
        if call.verb == "nack":
            checked(NackEntry, given(receipt=one.receipt, delay_ms=one.delay_ms, error=one.error))
        elif call.verb == "reject":
            checked(RejectEntry, given(receipt=one.receipt, reason=one.error))
        elif call.verb == "extend":
            checked(ExtendEntry, given(receipt=one.receipt, visibility_timeout_ms=one.lease_ms))
            check_lease(index, one.lease_ms)


@carries_out(m.Peek)
async def peek(services: Services, call: m.Peek) -> Page[m.PeekedMessage]:
    queue = _view(services, call.queue, call.kind)
    wanted = checked(
        PeekQuery,
        given(
            state=call.state, page_size=call.limit, key=call.key, reason=call.reason, filter=call.filter, error=call.error
        ),
    )
    after = Cursor() if call.page_token is None else cursor_from(call.page_token)
    page = await queue.peek.page(MessageState(wanted.state), after, wanted.page_size, filter_of(wanted))
    return Page([_peeked(one) for one in page.items], None if page.next is None else cursor_token(page.next))


def _peeked(one: Peeked) -> m.PeekedMessage:
    return told(peeked_out(one, "b64"), m.WirePeeked).peeked()


# -- dead letters ------------------------------------------------------------------------------------------------------


@carries_out(d.Redrive)
async def redrive(services: Services, call: d.Redrive) -> d.Redriven:
    _view(services, call.queue, call.kind)
    selection = selection_of(checked(RedriveIn, given(**call.selection.body(), rate=call.rate)))
    if call.dry_run:
        matched, sample = await services.letter_jobs.count(call.queue, selection)
        return d.Redriven(matched, [_peeked(one) for one in sample], None)
    begun = await services.letter_jobs.begin("redrive", call.queue, selection, call.rate)
    return d.Redriven(0, [], told(operation_out(begun), d.Operation))


@carries_out(d.Discard)
async def discard(services: Services, call: d.Discard) -> d.Operation:
    _view(services, call.queue, call.kind)
    selection = selection_of(checked(DiscardIn, given(**call.selection.body())))
    return told(operation_out(await services.letter_jobs.begin("discard", call.queue, selection)), d.Operation)


@carries_out(d.GetOperation)
async def get_operation(services: Services, call: d.GetOperation) -> d.Operation:
    return told(operation_out(services.operations.get(call.id)), d.Operation)


@carries_out(d.ListOperations)
async def list_operations(services: Services, call: d.ListOperations) -> Page[d.Operation]:
    return whole([told(operation_out(one), d.Operation) for one in services.operations.all()])


@carries_out(d.CancelOperation)
async def cancel_operation(services: Services, call: d.CancelOperation) -> d.Operation:
    return told(operation_out(await services.operations.cancel(call.id)), d.Operation)
