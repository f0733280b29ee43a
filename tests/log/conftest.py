"""A partition to test with: on memory files unless a test says otherwise, with a clock that stands still."""

from collections.abc import Callable
from pathlib import Path

import pytest

from logbroker.clock import ManualClock
from logbroker.log.files import Files
from logbroker.log.files.disk import DiskFiles
from logbroker.log.files.faults import FaultFiles
from logbroker.log.files.memory import MemoryFiles


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "disk", "faults"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    """Each implementation of the file layer."""
    makers: dict[str, Callable[[], Files]] = {
        "memory": MemoryFiles,
        "disk": lambda: DiskFiles(tmp_path / "data"),
        "faults": FaultFiles,
    }
    return makers[request.param]()
