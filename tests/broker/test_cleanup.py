"""What retention deleted is counted, and what a group had not read is told."""

import logging

import pytest

from logbroker.broker.services import Services, services_on
from logbroker.clock import ManualClock
from logbroker.config import BrokerConfig, TopicConfig
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.groups.messages import CommitOffsets, MemberClaim, OffsetToCommit
from logbroker.log.files.memory import MemoryFiles
from logbroker.metrics import Family
from logbroker.model import Record, TopicPartition

pytestmark = pytest.mark.asyncio
WHERE = TopicPartition("orders", 0)


def counted(services: Services, name: str) -> dict[tuple[str, ...], float]:
    return next(one for one in services.metrics if isinstance(one, Family) and one.name == name).values


async def test_what_goes_is_counted_and_what_a_group_had_not_read_is_told(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    engine = EmbeddedEngine(MemoryFiles(), BrokerConfig(), TopicConfig(), clock)
    await engine.start()
    services = services_on(engine, clock, BrokerConfig(), engine.cluster_id)
    await services.groups.start()
    await engine.create_topic("orders", 1, {"max_messages": 4})
    for number in range(10):
        await engine.append(WHERE, [Record(b"%d" % number)])
    for group_id, offset in (("ahead", 6), ("behind", 2)):
        await services.groups.commit(group_id, CommitOffsets(MemberClaim("", -1), (OffsetToCommit(WHERE, offset),)))
    with caplog.at_level(logging.INFO):
        services.cleanup.deleted(await engine.maintain())
    assert (await engine.bounds(WHERE)).log_start_offset == 6
    assert counted(services, "retention_deleted_records_total") == {("orders",): 6}
    assert counted(services, "retention_unread_records_total") == {("orders",): 4}
    [warning] = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert warning == "retention deleted 4 records of orders-0 that group 'behind' had not read: offsets 2 to 5"
    services.cleanup.deleted(await engine.maintain())
    assert counted(services, "retention_deleted_records_total") == {("orders",): 6}
    await services.groups.stop()
    await engine.stop()
