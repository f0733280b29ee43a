"""Images of a real file system under load, each as a power cut would leave it: all that was acknowledged is recovered.

The long form, 1,000 images, runs by ``python -m tools.faults power``.
"""

import random
from pathlib import Path

import pytest

from tests.faults.disk_images import unavailable
from tests.faults.power import INTERVAL_MS, run
from tests.faults.scale import scaled

IMAGES = scaled(12, 30)
FLUSH_MS = 100
"""What one flush may take on a machine that does other things as well."""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "disks can be made")
def test_what_was_acknowledged_is_in_every_image(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    losses = run(tmp_path, IMAGES, seed)
    told = f"seed {seed}: {losses.summary()}"
    assert losses.violations == [], told
    assert losses.lost["fsync"] == 0, told
    assert losses.worst_ms["interval"] <= INTERVAL_MS + FLUSH_MS, told
    assert losses.lost["os"] > 0, f"without flushes nothing was lost either, so this shows nothing: {told}"
