"""The lag from files that a crash has left: torn ends, damage, indexes that are wrong, control records."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from logbroker.broker.resets import Change
from logbroker.broker.services import services_on
from logbroker.cli.storage.lag import lag_rows
from logbroker.cli.storage.places import PartitionPlace, partitions
from logbroker.clock import SystemClock
from logbroker.config import BrokerConfig, TopicConfig
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.errors import DataDirectoryError, GroupNotFound, PartitionDamaged
from logbroker.log.files.disk import DiskFiles
from logbroker.model import Record, TopicPartition

ORDERS = TopicPartition("orders", 0)
RECORDS = 200
COMMITTED = 150


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory: 200 records in small segments, of which group g has read 150."""
    directory = tmp_path_factory.mktemp("written")
    asyncio.run(write(directory))
    return directory


async def write(directory: Path) -> None:
    config, clock = BrokerConfig(), SystemClock()
    engine = EmbeddedEngine(DiskFiles(directory), config, TopicConfig(), clock)
    await engine.start()
    await engine.create_topic("orders", 1, {"segment_bytes": 4_000, "index_interval_bytes": 0})
    for number in range(RECORDS):
        await engine.append(ORDERS, [Record(b"x" * 50, timestamp_ms=1_000_000 + number)])
    services = services_on(engine, clock, config, "cluster")
    await services.groups.start()
    await services.resets.carry_out("g", [Change(ORDERS, None, COMMITTED, False)], force=False)
    await services.groups.stop()
    await engine.stop()


@pytest.fixture
def data(written: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it to spoil."""
    yield shutil.copytree(written, tmp_path / "data")


def orders(data: Path) -> PartitionPlace:
    (place,) = partitions("orders", data)
    return place


def lag(data: Path) -> dict[str, Any]:
    (row,) = lag_rows(data, "g")
    return row


def test_the_lag_is_that_of_the_whole_log(data: Path) -> None:
    row = lag(data)
    assert (row["committed"], row["end"], row["lag"]) == (COMMITTED, RECORDS, RECORDS - COMMITTED)
    assert row["status"] in ("WARN", "STOP")  # by how long ago the commit was
    assert len(orders(data).segments()) > 3


def test_an_incomplete_batch_at_the_end_does_not_count(data: Path) -> None:
    log = orders(data).segments()[-1].path()
    log.write_bytes(log.read_bytes()[:-10])
    assert (lag(data)["end"], lag(data)["lag"]) == (RECORDS - 1, RECORDS - 1 - COMMITTED)
    log.write_bytes(log.read_bytes() + b"\0" * 500)
    assert lag(data)["end"] == RECORDS - 1


@pytest.mark.parametrize(
    "spoiled", [None, b"", b"\0\0\0\0\0\0\0\x07" * 50, b"\xff" * 800], ids=["gone", "empty", "wrong", "wild"]
)
def test_an_index_that_is_wrong_changes_nothing(data: Path, spoiled: bytes | None) -> None:
    before = {**lag(data), "lag_ms": 0}
    for segment in orders(data).segments():
        index = segment.path("index")
        index.unlink(missing_ok=True)
        if spoiled is not None:
            index.write_bytes(spoiled)
    assert {**lag(data), "lag_ms": 0} == before


def test_damage_before_the_first_unread_record_is_told(data: Path) -> None:
    place = orders(data)
    segment = max((one for one in place.segments() if one.base_offset <= COMMITTED), key=lambda one: one.base_offset)
    assert segment is not place.segments()[-1]
    content = bytearray(segment.path().read_bytes())
    content[70::100] = b"!" * len(content[70::100])
    segment.path().write_bytes(content)
    assert (lag(data)["status"], lag(data)["lag"]) == ("DAMAGED", None)


def test_a_journal_that_is_damaged_is_told(data: Path) -> None:
    for place in partitions("__consumer_offsets", data):
        for segment in place.segments():
            following = place.directory / f"{10**6:020d}.log"
            if segment.path().stat().st_size:
                following.write_bytes(b"")
                segment.path().write_bytes(segment.path().read_bytes()[:-3])
    with pytest.raises(PartitionDamaged):
        lag(data)


def test_a_group_or_a_directory_that_is_not_there_is_told(data: Path, tmp_path: Path) -> None:
    with pytest.raises(GroupNotFound):
        list(lag_rows(data, "nobody"))
    assert [row["group"] for row in lag_rows(data, None)] == ["g"]
    with pytest.raises(DataDirectoryError):
        list(lag_rows(tmp_path / "nowhere", None))
