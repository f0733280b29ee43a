"""dramatiq's own behaviour, on our broker: its workers run the actors."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import dramatiq
import pytest
from dramatiq.errors import QueueJoinTimeout, QueueNotFound
from dramatiq.middleware import AgeLimit, Callbacks, Pipelines, Retries, ShutdownNotifications
from dramatiq.worker import Worker

from logbroker.contrib.dramatiq import LogbrokerBroker
from logbroker.testing import LocalBroker


@pytest.fixture(scope="module")
def server() -> Iterator[LocalBroker]:
    with LocalBroker(kafka="off") as server:
        yield server


@pytest.fixture
def broker(server: LocalBroker, request: pytest.FixtureRequest) -> Iterator[LogbrokerBroker]:
    middleware = [AgeLimit(), ShutdownNotifications(), Callbacks(), Pipelines(), Retries(min_backoff=10, max_backoff=50)]
    broker = LogbrokerBroker(server.http_url, prefix=f"{abs(hash(request.node.name)):x}-", middleware=middleware)
    yield broker
    broker.close()


@contextmanager
def working(broker: LogbrokerBroker) -> Iterator[Worker]:
    worker = Worker(broker, worker_timeout=100, worker_threads=4)
    worker.start()
    yield worker
    worker.stop()


def counts(server: LocalBroker, broker: LogbrokerBroker, queue: str = "default") -> dict[str, int]:
    found = server.client.queue(broker._prefix + queue).stats().counts
    return {"ready": found.ready, "in_flight": found.in_flight, "delayed": found.delayed, "dead": found.dead}


def test_actors_are_run_with_their_arguments(broker: LogbrokerBroker, server: LocalBroker) -> None:
    done: list[tuple[int, str]] = []

    @dramatiq.actor(broker=broker)
    def add(number: int, text: str = "") -> None:
        done.append((number, text))

    for number in range(20):
        add.send(number, text=f"t{number}")
    with working(broker) as worker:
        broker.join("default", timeout=10_000)
        worker.join()
    assert sorted(done) == [(number, f"t{number}") for number in range(20)]
    assert not any(counts(server, broker).values())


def test_an_actor_that_fails_is_retried_by_dramatiq(broker: LogbrokerBroker, server: LocalBroker) -> None:
    runs: list[float] = []

    @dramatiq.actor(broker=broker, max_retries=5)
    def flaky() -> None:
        runs.append(time.monotonic())
        if len(runs) < 3:
            raise RuntimeError("not yet")

    flaky.send()
    with working(broker):
        broker.join("default", timeout=10_000)
    assert len(runs) == 3
    assert counts(server, broker)["dead"] == 0


def test_what_dramatiq_gives_up_on_is_a_dead_letter_with_its_traceback(
    broker: LogbrokerBroker, server: LocalBroker
) -> None:
    @dramatiq.actor(broker=broker, max_retries=1)
    def broken() -> None:
        raise RuntimeError("never")

    broken.send()
    with working(broker):
        broker.join("default", timeout=10_000)
    [letter] = server.client.queue(f"{broker._prefix}default").dlq.list()
    assert letter.last_error is not None
    assert "RuntimeError: never" in letter.last_error


def test_a_delay_is_kept_by_the_queue(broker: LogbrokerBroker, server: LocalBroker) -> None:
    done: list[int] = []

    @dramatiq.actor(broker=broker, queue_name="later")
    def later() -> None:
        done.append(1)

    later.send_with_options(delay=3_600_000)
    assert counts(server, broker, "later")["delayed"] == 1
    with working(broker), pytest.raises(QueueJoinTimeout):
        broker.join("later", timeout=200)
    broker.flush_all()
    assert (done, counts(server, broker, "later")["delayed"]) == ([], 0)


def test_a_pipeline_runs_on(broker: LogbrokerBroker) -> None:
    done: list[int] = []

    @dramatiq.actor(broker=broker)
    def double(number: int) -> int:
        return 2 * number

    @dramatiq.actor(broker=broker)
    def note(number: int) -> None:
        done.append(number)

    with working(broker):
        steps = [double.message(5), broker.get_actor("double").message(), broker.get_actor("note").message()]
        dramatiq.pipeline(steps, broker=broker).run()  # type: ignore[no-untyped-call]  # dramatiq leaves it untyped
        deadline = time.monotonic() + 10
        while not done and time.monotonic() < deadline:
            time.sleep(0.01)
    assert done == [20]


def test_what_was_prefetched_goes_back_when_a_consumer_closes(broker: LogbrokerBroker, server: LocalBroker) -> None:
    @dramatiq.actor(broker=broker)
    def never() -> None: ...

    for _ in range(3):
        never.send()
    consumer = broker.consume("default", prefetch=3, timeout=1_000)
    first = next(consumer)
    assert first is not None
    assert counts(server, broker)["in_flight"] == 3
    consumer.requeue([first])
    consumer.close()
    assert counts(server, broker) == {"ready": 3, "in_flight": 0, "delayed": 0, "dead": 0}


def test_a_queue_that_was_not_declared_is_an_error(broker: LogbrokerBroker) -> None:
    for use in (broker.flush, broker.join, broker.consume):
        with pytest.raises(QueueNotFound):
            use("unknown")
