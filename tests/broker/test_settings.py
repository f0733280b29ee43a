"""Settings that change while the broker runs: in force at once, kept over restarts, on any engine."""

import msgspec
import pytest

from logbroker.broker.settings import DYNAMIC, SETTINGS_TOPIC, BrokerSettings
from logbroker.config import BROKER_SETTINGS, BrokerConfig
from logbroker.errors import DataDirectoryError, InvalidConfig
from logbroker.model import Record, TopicPartition
from tests.engine.fake import FakeEngine

pytestmark = pytest.mark.asyncio


async def test_a_change_is_in_force_at_once_and_after_a_restart() -> None:
    engine = FakeEngine()
    settings = BrokerSettings(engine, BrokerConfig(max_partitions=70))
    heard: list[BrokerConfig] = []
    settings.follow(heard.append)
    await settings.change({"num_partitions": "4", "auto_create_topics": "false"})
    assert (settings.broker.num_partitions, settings.broker.auto_create_topics) == (4, False)
    assert heard == [settings.broker]
    await settings.change({"num_partitions": None, "group_max_size": 9})
    restarted = BrokerSettings(engine, BrokerConfig(max_partitions=70))
    await restarted.load()
    assert restarted.broker == settings.broker
    assert restarted.overrides == {"auto_create_topics": False, "group_max_size": 9}
    assert restarted.broker.max_partitions == 70
    bounds = await engine.bounds(TopicPartition(SETTINGS_TOPIC, 0))
    read = await engine.read(TopicPartition(SETTINGS_TOPIC, 0), bounds.log_start_offset, max_bytes=1 << 20)
    assert len(read.records) == 1


async def test_without_changes_nothing_is_written() -> None:
    engine = FakeEngine()
    settings = BrokerSettings(engine, BrokerConfig())
    await settings.load()
    await settings.change({"num_partitions": 3}, check_only=True)
    assert list(engine.topics()) == []
    assert settings.broker == BrokerConfig()


@pytest.mark.parametrize("changes", [{"num_partitions": 0}, {"data_dir": "/elsewhere"}, {"no_such_setting": 1}])
async def test_what_cannot_be_changed_is_refused_whole(changes: dict[str, object]) -> None:
    settings = BrokerSettings(FakeEngine(), BrokerConfig())
    with pytest.raises(InvalidConfig):
        await settings.change({"group_max_size": 9, **changes})
    assert settings.overrides == {}


async def test_what_a_newer_logbroker_wrote_is_refused() -> None:
    engine = FakeEngine()
    await BrokerSettings(engine, BrokerConfig()).change({"num_partitions": 3})
    newer = msgspec.json.encode({"version": 2, "settings": {}})
    await engine.append(TopicPartition(SETTINGS_TOPIC, 0), [Record(newer)])
    with pytest.raises(DataDirectoryError):
        await BrokerSettings(engine, BrokerConfig()).load()


async def test_every_dynamic_setting_is_declared() -> None:
    assert set(DYNAMIC) <= BROKER_SETTINGS.keys()
