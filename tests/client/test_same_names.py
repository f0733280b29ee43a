"""The asynchronous and the synchronous client have the same objects, with the same names and signatures."""

import inspect
import re
from typing import Any

import pytest

from logbroker import AsyncClient
from logbroker.client.aio import consumer, dead_letters, producer, queue, queues, subscription, topics
from logbroker.client.blocking import client as sync_client
from logbroker.client.blocking import consumer as sync_consumer
from logbroker.client.blocking import dead_letters as sync_dead_letters
from logbroker.client.blocking import producer as sync_producer
from logbroker.client.blocking import queue as sync_queue
from logbroker.client.blocking import queues as sync_queues
from logbroker.client.blocking import subscription as sync_subscription
from logbroker.client.blocking import topics as sync_topics
from logbroker.client.calls.base import Call
from logbroker.embedded.carrier import PARTS
from logbroker.embedded.handlers import HANDLERS

PAIRS: list[tuple[type, type]] = [
    (AsyncClient, sync_client.SyncClient),
    (topics.AsyncTopics, sync_topics.Topics),
    (queues.AsyncQueues, sync_queues.Queues),
    (queue.AsyncQueue, sync_queue.Queue),
    (queue.AsyncMessage, sync_queue.Message),
    (queue.AsyncReceived, sync_queue.Received),
    (dead_letters.AsyncDeadLetters, sync_dead_letters.DeadLetters),
    (dead_letters.AsyncOperations, sync_dead_letters.Operations),
    (subscription.AsyncSubscriptions, sync_subscription.Subscriptions),
    (subscription.AsyncSubscription, sync_subscription.Subscription),
    (producer.AsyncProducer, sync_producer.Producer),
    (consumer.AsyncConsumer, sync_consumer.Consumer),
]
ASYNCHRONOUS_ONLY = {"handler", "run", "service", "worker"}
"""Handlers of a queue or service run on a loop; a synchronous one runs in a thread of it."""
_SAME = {"__aenter__": "__enter__", "__aexit__": "__exit__", "__aiter__": "__iter__", "__anext__": "__next__"}


def public(kind: type) -> dict[str, Any]:
    return {
        _SAME.get(name, name): value
        for name, value in inspect.getmembers(kind)
        if (not name.startswith("_") or name in _SAME or name in _SAME.values()) and callable(value)
    }


def plain(annotation: object) -> str:
    """An annotation without what is asynchronous about it."""
    text = inspect.formatannotation(annotation).replace("typing.", "").replace("collections.abc.", "")
    text = re.sub(r"(?:logbroker\.client\.(?:aio|blocking)\.\w+\.)?(?:Async|Sync)?(\w+)", r"\1", text)
    text = text.replace("concurrent.futures._base.Future", "Future").replace("asyncio.Future", "Future")
    text = text.replace("contextlib._GeneratorContextManager", "Context").replace("AsyncGenerator", "Generator")
    return re.sub(r"\[(.*), None(?:, None)?\]$", r"[\1]", text.replace("_AsyncGeneratorContextManager", "Context"))


@pytest.mark.parametrize(("asynchronous", "synchronous"), PAIRS)
def test_both_have_the_same_names(asynchronous: type, synchronous: type) -> None:
    assert public(asynchronous).keys() - ASYNCHRONOUS_ONLY == public(synchronous).keys()


@pytest.mark.parametrize(("asynchronous", "synchronous"), PAIRS)
def test_both_take_the_same_arguments(asynchronous: type, synchronous: type) -> None:
    others = public(synchronous)
    for name, function in public(asynchronous).items():
        if not inspect.isfunction(function) or name in ASYNCHRONOUS_ONLY:
            continue
        mine, other = inspect.signature(function), inspect.signature(others[name])
        compared = [(one.name, one.kind, one.default, plain(one.annotation)) for one in mine.parameters.values()]
        assert compared == [
            (one.name, one.kind, one.default, plain(one.annotation)) for one in other.parameters.values()
        ], name
        doc, other_doc = inspect.getdoc(function), inspect.getdoc(others[name])
        assert bool(doc) == bool(other_doc), name


def test_every_call_is_carried_out_in_process_too() -> None:
    assert PARTS
    calls: set[type] = set()
    kinds: list[type] = [Call]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        if "request" in vars(kind) and kind is not Call:
            calls.add(kind)
    assert calls == set(HANDLERS)
    assert len(calls) > 30
