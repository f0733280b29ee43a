"""A disk that gets full under a real broker: refused with a word for it, reads and acks go on, and it comes back."""

from pathlib import Path

import pytest

from tests.faults.disk_full import run
from tests.faults.disk_images import unavailable


@pytest.mark.slow
@pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "disks can be made")
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_disk_that_gets_full_refuses_produce_and_nothing_else(tmp_path: Path, kind: str) -> None:
    outcome = run(tmp_path, kind, 10, seed=1)
    assert not outcome.wrong, outcome.wrong[:3]
    assert outcome.there == outcome.acknowledged > 100
    assert outcome.refused > 0
    assert outcome.slowest_return_s < 5
