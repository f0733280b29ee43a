"""Whichever call on the files fails: a clean refusal or a stop, no false acknowledgement, no wrong read.

The long form, every point, runs by ``python -m tools.faults matrix``.
"""

from pathlib import Path

import pytest

from tests.faults.matrix import ERRORS, in_memory, on_disk
from tests.faults.scale import scaled

EVERY = scaled(61, 13)


@pytest.mark.timeout(600)
def test_any_call_that_fails_is_told_and_nothing_acknowledged_is_lost() -> None:
    points = in_memory(EVERY)
    assert points.violations == [], points.summary()
    assert len(points.errors) == len(ERRORS)
    assert {"write", "fdatasync", "create", "sync_dir"} <= points.calls.keys()
    assert points.stopped


@pytest.mark.timeout(600)
def test_any_system_call_that_fails_or_comes_back_short_is_told_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    points = on_disk(EVERY, tmp_path)
    assert points.violations == [], points.summary()
    assert len(points.errors) == len(ERRORS) + 1
    assert {"pwritev", "fdatasync", "fsync", "open"} <= points.calls.keys()
    assert points.stopped
