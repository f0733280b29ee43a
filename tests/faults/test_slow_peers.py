"""Many peers that say nothing, half of it, or never read: memory stays bounded, they are closed, the others are served."""

from pathlib import Path

import pytest

from tests.faults.slow_peers import run


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_many_slow_peers_are_closed_in_time_and_take_little_memory(tmp_path: Path) -> None:
    outcome = run(tmp_path, half_open=300, slow=50, deaf=20, seconds=2.0)
    assert outcome.closed == 350, outcome.summary()
    assert outcome.per_connection < 64 * 1024, outcome.summary()
    assert outcome.grown_bytes < 400 << 20, outcome.summary()
    assert outcome.rate_during > outcome.rate_before / 3, outcome.summary()  # this machine is shared
