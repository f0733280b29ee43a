"""A flush that fails ends the broker at once: nothing is acknowledged after it, and what was before is there."""

import shutil
from pathlib import Path

import pytest

from tests.faults.disk_images import unavailable
from tests.faults.failing_flush import injected, overcommitted


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_an_error_of_fdatasync_ends_the_broker_within_a_second(tmp_path: Path) -> None:
    outcome = injected(tmp_path)
    assert outcome.stopped_in_time(), outcome.summary()
    assert outcome.lost == 0, outcome.summary()
    assert outcome.acknowledged > 10


@pytest.mark.slow
@pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "disks can be made")
def test_a_disk_that_cannot_take_what_was_written_ends_the_broker_within_a_second(tmp_path: Path) -> None:
    outcome = overcommitted(tmp_path)
    assert outcome.stopped_in_time(), outcome.summary()
    assert outcome.lost <= 1, "only the record that shares a block with the write that failed may be gone"
    assert outcome.acknowledged > 100
