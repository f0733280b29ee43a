"""A disk that flushes slowly: everybody waits for the flush, together, and nothing piles up."""

import shutil
from pathlib import Path

import pytest

from tests.faults.slow_disk import DELAY_MS, run


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_with_slow_flushes_producers_wait_together_and_no_lease_runs_out(tmp_path: Path) -> None:
    outcome = run(tmp_path, seconds=4.0)
    assert outcome.times[0] > DELAY_MS / 1000 * 0.9, "an answer came before the flush"
    assert outcome.slowest_of_99 < 10 * DELAY_MS / 1000, outcome.summary()
    assert outcome.grown_bytes < 64 << 20, outcome.summary()
    assert outcome.received > 0
    assert outcome.refused_acks == 0, outcome.summary()
