"""What a door gets: the use cases and the facts about this process, as fields only.

What lives here: one value object, and its assembly over an engine. What may not: behaviour.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import logbroker
from logbroker.broker.claim_collection import ClaimCollector
from logbroker.broker.claims import Claims
from logbroker.broker.cleanup import Cleanup
from logbroker.broker.fetch import Fetch
from logbroker.broker.filtering import Filtering
from logbroker.broker.in_flight import InFlight
from logbroker.broker.lag import Lag
from logbroker.broker.letter_jobs import LetterJobs
from logbroker.broker.lifecycle import Lifecycle
from logbroker.broker.members import Members
from logbroker.broker.operations import Operations
from logbroker.broker.produce import Produce
from logbroker.broker.queue_sends import QueueSends
from logbroker.broker.queues import Queues
from logbroker.broker.replay import Replays
from logbroker.broker.request_reply import RequestReply
from logbroker.broker.resets import Resets
from logbroker.broker.settings import BrokerSettings
from logbroker.broker.snapshots import Snapshots
from logbroker.broker.subscriptions import Subscriptions
from logbroker.broker.topics import Topics
from logbroker.broker.verifications import Verifications
from logbroker.broker.views import NameSpace
from logbroker.broker.waiting import Waiting
from logbroker.clock import Clock
from logbroker.config import BrokerConfig, TopicConfig
from logbroker.engine.api import Engine
from logbroker.groups.coordinator import GroupCoordinator
from logbroker.groups.messages import GroupLimits
from logbroker.groups.transactions.coordinator import TransactionCoordinator
from logbroker.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Facts:
    """What ``/v1/info`` tells. ``listeners`` (door to address) is filled in by the node as the doors open."""

    version: str
    cluster_id: str
    started_ms: int
    features: tuple[str, ...]
    listeners: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything the doors share."""

    engine: Engine
    clock: Clock
    config: BrokerConfig
    """What the process was started with; ``settings`` has what may change while it runs."""
    settings: BrokerSettings
    """To be loaded before a door opens."""
    topic_defaults: TopicConfig
    facts: Facts
    lifecycle: Lifecycle
    metrics: Metrics
    in_flight: InFlight
    waiting: Waiting
    topics: Topics
    produce: Produce
    fetch: Fetch
    filtering: Filtering
    groups: GroupCoordinator
    """To be started before a door that serves groups opens."""
    members: Members
    """To be closed before ``groups`` stop."""
    transactions: TransactionCoordinator
    """To be started after the groups and before a door opens, and stopped before the groups."""
    resets: Resets
    lag: Lag
    queues: Queues
    """To be started before a door opens."""
    subscriptions: Subscriptions
    """To be started after the queues and snapshots."""
    snapshots: Snapshots
    """To be started before a door opens."""
    queue_sends: QueueSends
    cleanup: Cleanup
    request_reply: RequestReply
    claims: Claims
    claim_collector: ClaimCollector
    operations: Operations
    """To be started after the queues, and stopped before them."""
    verifications: Verifications
    letter_jobs: LetterJobs
    replays: Replays


def services_on(
    engine: Engine,
    clock: Clock,
    config: BrokerConfig,
    cluster_id: str,
    *,
    metrics: Metrics | None = None,
    topic_defaults: TopicConfig | None = None,
) -> Services:
    """The use cases over ``engine``."""
    metrics, lifecycle, claims = metrics or Metrics(), Lifecycle(), Claims(config)
    waiting, in_flight = Waiting(engine, lifecycle.closing, metrics), InFlight(config.max_in_flight_bytes, metrics)
    groups, filtering = GroupCoordinator(engine, clock, _group_limits(config)), Filtering(engine, metrics)
    topics, names, snapshots = Topics(engine, config, groups.forget_topic), NameSpace(), Snapshots(engine, clock)
    queues = Queues(engine, topics, names, clock, metrics)
    produce = Produce(engine, topics, clock, metrics, queues.priorities_of)
    fetch = Fetch(engine, clock, waiting, metrics, filtering)
    queue_sends, operations = QueueSends(engine, queues, produce, clock), Operations(engine, clock)
    return Services(
        engine=engine,
        clock=clock,
        config=config,
        settings=_settings(engine, config, topics, groups),
        topic_defaults=topic_defaults or TopicConfig(),
        facts=Facts(logbroker.__version__, cluster_id, clock.now().wall_ms, _features(engine)),
        lifecycle=lifecycle,
        metrics=metrics,
        in_flight=in_flight,
        waiting=waiting,
        topics=topics,
        produce=produce,
        fetch=fetch,
        filtering=filtering,
        groups=groups,
        members=Members(engine, groups, fetch, waiting, clock),
        transactions=TransactionCoordinator(engine, groups, clock),
        resets=Resets(engine, topics, groups),
        lag=Lag(engine, groups, clock),
        queues=queues,
        subscriptions=Subscriptions(engine, topics, names, snapshots, clock, metrics),
        snapshots=snapshots,
        cleanup=Cleanup(groups, metrics),
        queue_sends=queue_sends,
        request_reply=RequestReply(queues, queue_sends, clock, metrics),
        claims=claims,
        claim_collector=ClaimCollector(engine, claims, clock, metrics),
        operations=operations,
        verifications=Verifications(engine, operations),
        letter_jobs=LetterJobs(operations, names),
        replays=Replays(engine, operations, filtering, queues, queue_sends, produce),
    )


def _settings(engine: Engine, config: BrokerConfig, topics: Topics, groups: GroupCoordinator) -> BrokerSettings:
    """The settings that may change, followed by whoever they are of."""
    settings = BrokerSettings(engine, config)

    def changed(config: BrokerConfig) -> None:
        topics.config = config
        groups.set_limits(_group_limits(config))

    settings.follow(changed)
    return settings


def _group_limits(config: BrokerConfig) -> GroupLimits:
    return GroupLimits(
        initial_rebalance_delay_ms=config.group_initial_rebalance_delay_ms,
        min_session_timeout_ms=config.group_min_session_timeout_ms,
        max_session_timeout_ms=config.group_max_session_timeout_ms,
        max_size=config.group_max_size,
        consumer_session_timeout_ms=config.group_consumer_session_timeout_ms,
        consumer_heartbeat_interval_ms=config.group_consumer_heartbeat_interval_ms,
        offset_metadata_max_bytes=config.offset_metadata_max_bytes,
    )


def _features(engine: Engine) -> tuple[str, ...]:
    available: Mapping[str, bool] = {"raw_batches": engine.raw is not None, "storage": engine.storage is not None}
    return tuple(name for name, there in available.items() if there)
