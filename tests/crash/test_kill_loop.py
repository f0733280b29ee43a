"""A broker under mixed load is killed, paused and stopped, at random and at named points: every promise holds.

LOGBROKER_KILLS sets the number of kills. A kill leaves the page cache alone; that the flush is needed, and is done, is
shown by ``test_power_cut`` and ``tests/faults``, that the verdict can be bad by ``test_checker`` and ``test_jobs``.
"""

import os
import random
from pathlib import Path

import pytest

from tests.crash.kill_loop import run

KILLS = int(os.environ.get("LOGBROKER_KILLS") or (60 if os.environ.get("CI") == "true" else 8))


@pytest.mark.slow
@pytest.mark.timeout(240 + 6 * KILLS)
def test_what_was_answered_survives_whatever_ends_the_process(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    done = run(tmp_path, KILLS, seed)
    told = f"seed {seed}, {done.summary()}"
    (tmp_path / "summary.txt").write_text(told, encoding="utf-8")
    assert done.anomalies() == {}, told
    assert not done.enough(), f"{done.enough()}, so this shows nothing: {told}"
