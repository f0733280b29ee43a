"""No jump of the wall clock ends a lease early, deletes a record early or stops the broker from giving out offsets."""

import pytest

from logbroker.engine.maintenance import BelievedTime
from logbroker.model import Now
from tests.faults.clock import jump
from tests.faults.scale import scaled

JUMPS = scaled(60, 200)


def test_jumps_of_the_clock_end_and_delete_nothing_early() -> None:
    done = jump(JUMPS, 1)
    assert done.violations == [], done.summary()
    assert done.deleted > 0


def test_control_a_broker_that_believes_its_clock_at_once_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def believe(self: BelievedTime, now: Now) -> Now:
        return now

    monkeypatch.setattr(BelievedTime, "at", believe)
    assert any("deleted early" in one for one in jump(JUMPS, 1).violations)
