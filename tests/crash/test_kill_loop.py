"""SIGKILL in the middle of concurrent HTTP produces, many times in a row: nothing that was acknowledged is lost or moved.

LOGBROKER_KILLS sets the number of kills. A kill leaves the page cache alone; that the flush is needed, and is done, is
shown by the control of this test, ``test_power_cut``.
"""

import os
import random
from pathlib import Path

import pytest

from tests.crash.checker import check
from tests.crash.history import Outcome
from tests.crash.kill_loop import run

KILLS = int(os.environ.get("LOGBROKER_KILLS") or (100 if os.environ.get("CI") == "true" else 10))


@pytest.mark.slow
@pytest.mark.timeout(120 + 5 * KILLS)
def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    done = run(tmp_path, KILLS, seed)
    told = f"seed {seed}, {KILLS} kills, {done.summary()}"
    assert check(done.history) == {}, told
    assert done.exit_code == 0, done.output[-4000:]
    assert "Traceback" not in done.output
    assert done.sends[Outcome.OK] > 10 * KILLS, f"the writers hardly came to write, so this shows nothing: {told}"
    assert done.sends[Outcome.UNKNOWN] > KILLS / 4, f"the kills hardly met a request, so this shows nothing: {told}"
