"""``lb.queues``: the queues of a broker as declarations. What is done with one is in ``queue``."""

from typing import Any

from logbroker.client.blocking.driver import Driver
from logbroker.client.calls.queues import DeleteQueue, GetQueue, PatchQueue, QueueInfo
from logbroker.client.declaring import create_queue, list_queues, queue_settings
from logbroker.client.positions import Start


class Queues:
    """The queues of a broker."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def create(self, name: str, *, if_not_exists: bool = False, start: Start | None = None, **settings: Any) -> QueueInfo:
        """Create a queue. One that is there as declared is left as it is, with ``if_not_exists`` any.

        ``settings`` are the broker's, durations without their unit: ``visibility_timeout="30s"``,
        ``retry={"policy": "fixed", "initial": "1s"}``. ``start`` says where in a topic that is there already; without it,
        at its end. Raises ConfigConflict, InvalidTopic, TopicReserved, InvalidConfig, InvalidPartitions.
        """
        return self._driver.run(create_queue(name, start, settings, if_not_exists=if_not_exists))

    def get(self, name: str) -> QueueInfo:
        """One queue. Raises QueueNotFound."""
        return self._driver(GetQueue(name))

    def list(self, prefix: str = "") -> list[QueueInfo]:
        """The queues whose names start with ``prefix``."""
        return self._driver.run(list_queues(prefix))

    def alter(self, name: str, **settings: Any) -> QueueInfo:
        """Change settings; None is the default. Raises QueueNotFound, InvalidConfig, ConfigConflict."""
        return self._driver(PatchQueue(name, queue_settings(settings)))

    def delete(self, name: str, *, keep_topic: bool = False, missing_ok: bool = False) -> None:
        """Delete a queue with its messages, retries and dead letters. Raises QueueNotFound."""
        self._driver(DeleteQueue(name, keep_topic, missing_ok))
