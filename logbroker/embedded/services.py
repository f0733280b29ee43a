"""Request-reply, in process."""

from logbroker.broker.request_reply import Reply
from logbroker.broker.services import Services
from logbroker.client.calls import services as s
from logbroker.client.calls.base import given
from logbroker.client.payloads import Headers
from logbroker.embedded.handlers import carries_out, checked
from logbroker.http_api.request_reply import RequestQuery, ServeIn
from logbroker.queues.dispatcher import Want


@carries_out(s.Ask)
async def ask(services: Services, call: s.Ask) -> s.Reply:
    checked(RequestQuery, {"timeout_ms": call.timeout_ms})
    reply = await services.request_reply.request(call.service, call.record, call.timeout_ms)
    return s.Reply(reply.value, Headers(reply.headers))


@carries_out(s.Serve)
async def serve(services: Services, call: s.Serve) -> list[s.Asked]:
    checked(
        ServeIn,
        given(
            max=call.limit,
            wait_ms=call.wait_ms,
            consumer=call.consumer,
            visibility_timeout_ms=call.visibility_timeout_ms,
        ),
    )
    want = Want(call.limit, call.visibility_timeout_ms, call.consumer)
    asked = await services.request_reply.serve(call.service, want, call.wait_ms)
    return [
        s.Asked(
            one.token,
            one.deadline_ms,
            one.received.deliveries,
            one.received.key,
            one.received.value,
            Headers(one.received.headers),
        )
        for one in asked
    ]


@carries_out(s.AnswerRequest)
async def answer(services: Services, call: s.AnswerRequest) -> None:
    record, error = call.reply
    reply = Reply(None, (), error) if record is None else Reply(record.value, record.headers)
    await services.request_reply.reply(call.token, reply)
