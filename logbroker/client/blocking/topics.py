"""``lb.topics``."""

from typing import Any

from logbroker.client.blocking.driver import Driver
from logbroker.client.calls.topics import DeleteTopic, GetTopic, PatchTopic, Topic, TopicSummary
from logbroker.client.declaring import create_topic, list_topics, topic_settings


class Topics:
    """The topics of a broker."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def create(self, name: str, *, partitions: int | None = None, if_not_exists: bool = False, **settings: Any) -> Topic:
        """Create a topic. One that is there as declared is left as it is, with ``if_not_exists`` any.

        ``settings`` are the broker's, durations without their unit: ``retention="7d"``. Raises ConfigConflict,
        InvalidTopic, TopicReserved, InvalidPartitions, InvalidConfig.
        """
        return self._driver.run(create_topic(name, partitions, settings, if_not_exists=if_not_exists))

    def get(self, name: str) -> Topic:
        """One topic. Raises UnknownTopicOrPartition."""
        return self._driver(GetTopic(name))

    def list(self, prefix: str = "", *, internal: bool = False) -> list[TopicSummary]:
        """The topics whose names start with ``prefix``; logbroker's own only where ``internal``."""
        return self._driver.run(list_topics(prefix, internal=internal))

    def alter(self, name: str, *, partitions: int | None = None, **settings: Any) -> Topic:
        """Add partitions, change settings (None is the default). Raises as ``create``, and UnknownTopicOrPartition."""
        return self._driver(PatchTopic(name, partitions, topic_settings(settings)))

    def delete(self, name: str, *, missing_ok: bool = False) -> None:
        """Delete a topic and its records. Raises UnknownTopicOrPartition, TopicReserved, TopicInUse."""
        self._driver(DeleteTopic(name, missing_ok))
