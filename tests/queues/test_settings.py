"""The configuration of a queue: defaults, refusals, changes, cycles."""

from typing import Any

import msgspec
import pytest

from logbroker.errors import ConfigConflict, InvalidConfig, InvalidPartitions
from logbroker.queues.redelivery import RetryKind, RetryPolicy
from logbroker.queues.rules import LeaseRules
from logbroker.queues.settings import QueueSettings, check_change, check_no_cycle, checked, partitions_for

DEFAULTS = {
    "partitions": None,
    "kafka_produce": "refuse",
    "max_size": None,
    "overflow": "reject",
    "visibility_timeout_ms": 30_000,
    "max_attempts": 10,
    "message_ttl_ms": None,
    "retry": {
        "policy": "exponential",
        "initial_ms": 100,
        "factor": 2,
        "max_ms": 60_000,
        "jitter": 0.2,
        "delays_ms": (),
    },
    "dlq": {"max_size": 10_000, "overflow": "drop_oldest"},
    "priorities": 1,
    "priority_mode": "strict",
    "ordering": "none",
    "dedup_window_ms": 600_000,
    "max_in_flight": 20_000,
}


def settings(**given: Any) -> QueueSettings:
    return msgspec.convert(given, QueueSettings)


def test_the_defaults_are_those_of_the_contract_and_pass() -> None:
    assert msgspec.to_builtins(checked(QueueSettings())) == DEFAULTS


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"visibility_timeout_ms": 99}, "visibility_timeout_ms"),
        ({"visibility_timeout_ms": 43_200_001}, "visibility_timeout_ms"),
        ({"visibility_timeout_ms": 0}, "visibility_timeout_ms"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": 10_001}, "max_attempts"),
        ({"max_size": 0}, "max_size"),
        ({"message_ttl_ms": 0}, "message_ttl_ms"),
        ({"priorities": 11, "partitions": 11}, "priorities"),
        ({"priorities": 3, "partitions": 4}, "partitions"),
        ({"priorities": 2, "ordering": "key"}, "priorities"),
        ({"partitions": 20_001}, "partitions"),
        ({"dedup_window_ms": 999}, "dedup_window_ms"),
        ({"dlq": {"max_size": 0}}, "dlq.max_size"),
        ({"retry": {"factor": 0.5}}, "retry.factor"),
        ({"retry": {"jitter": 1.5}}, "retry.jitter"),
        ({"retry": {"policy": "list"}}, "retry.delays_ms"),
        ({"retry": {"delays_ms": [1]}}, "retry.delays_ms"),
        ({"retry": {"policy": "list", "delays_ms": [1, -1]}}, "retry.delays_ms"),
        ({"max_in_flight": 0}, "max_in_flight"),
    ],
)
def test_t08_what_cannot_work_is_refused_at_creation_by_name(given: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        checked(settings(**given))
    assert refused.value.fields["setting"] == name
    assert name in str(refused.value)


@pytest.mark.parametrize(
    "given",
    [
        {"visibility_timeout_ms": 100},
        {"visibility_timeout_ms": 43_200_000},
        {"max_attempts": None},
        {"priorities": 10, "partitions": 20, "priority_mode": "weighted"},
        {"ordering": "key", "partitions": 7},
        {"retry": {"policy": "list", "delays_ms": [0, 86_400_000]}},
    ],
)
def test_the_edges_are_accepted(given: dict[str, Any]) -> None:
    assert checked(settings(**given)) == settings(**given)


def test_unknown_settings_and_choices_are_refused() -> None:
    for given in ({"max_atempts": 3}, {"overflow": "drop_oldest"}, {"retry": {"policy": "random"}}):
        with pytest.raises(msgspec.ValidationError):
            settings(**given)


def test_settings_become_the_rules_of_the_lease_machine() -> None:
    given = settings(
        max_attempts=3, message_ttl_ms=5, ordering="key", retry={"policy": "fixed", "initial_ms": 7, "jitter": 0}
    )
    policy = RetryPolicy(RetryKind.FIXED, initial_ms=7, jitter=0)
    assert given.rules() == LeaseRules(3, policy, 5, ordered=True)


@pytest.mark.parametrize(
    ("given", "existing", "partitions"),
    [({}, None, 1), ({"priorities": 3}, None, 3), ({}, 6, 6), ({"priorities": 3}, 6, 6), ({"partitions": 9}, 6, 9)],
)
def test_the_partitions_follow_the_topic_or_the_priorities(given: dict[str, Any], existing: int, partitions: int) -> None:
    assert partitions_for(settings(**given), existing) == partitions


@pytest.mark.parametrize(("given", "existing"), [({"partitions": 3}, 6), ({"priorities": 4}, 6)])
def test_a_topic_that_does_not_fit_is_refused(given: dict[str, Any], existing: int) -> None:
    with pytest.raises(InvalidPartitions):
        partitions_for(settings(**given), existing)


@pytest.mark.parametrize("change", [{"ordering": "key"}, {"priorities": 2}])
def test_what_waiting_messages_lie_by_cannot_change(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigConflict, match="make another queue"):
        check_change(QueueSettings(), settings(**change))
    check_change(QueueSettings(), settings(max_attempts=3))


@pytest.mark.parametrize(
    ("name", "topic", "topics"),
    [
        ("a", "a.dlq", {}),
        ("a", "a.retry", {}),
        ("a", "b.dlq", {"b": "a.dlq"}),
        ("a", "b.dlq", {"b": "c.retry", "c": "a.dlq"}),
    ],
)
def test_t17_a_subscription_fed_by_its_own_failures_is_refused(name: str, topic: str, topics: dict[str, str]) -> None:
    with pytest.raises(InvalidConfig, match="own failures"):
        check_no_cycle(name, topic, topics)


@pytest.mark.parametrize(
    ("topic", "topics"),
    [("orders", {}), ("orders.dlq", {}), ("b.dlq", {"b": "orders"}), ("b.dlq", {"b": "c.dlq", "c": "b.dlq"})],
)
def test_t17_reading_the_dead_letters_of_others_is_fine(topic: str, topics: dict[str, str]) -> None:
    check_no_cycle("a", topic, topics)
