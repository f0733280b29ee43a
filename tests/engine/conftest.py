"""The engines every contract test runs on. ``fake`` leaves gaps in offsets and has no raw batches."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from logbroker.clock import ManualClock
from logbroker.config import BrokerConfig, TopicConfig
from logbroker.engine.api import Engine
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.log.files import Files
from logbroker.log.files.disk import DiskFiles
from logbroker.log.files.memory import MemoryFiles
from tests.engine.fake import FakeEngine


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def started(files: Files, clock: ManualClock, **topic_defaults: object) -> EmbeddedEngine:
    """An embedded engine on ``files``, started."""
    engine = EmbeddedEngine(files, BrokerConfig(), TopicConfig(**topic_defaults), clock)  # type: ignore[arg-type]  # free-form in tests
    await engine.start()
    return engine


@pytest_asyncio.fixture(params=["memory", "disk", "fake"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Engine]:
    if request.param == "fake":
        yield FakeEngine(clock)
        return
    files: Files = MemoryFiles() if request.param == "memory" else DiskFiles(tmp_path / "data")
    embedded = await started(files, clock)
    yield embedded
    await embedded.stop()
