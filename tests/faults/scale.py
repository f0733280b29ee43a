"""How long the runs are: a moment at a desk, a minute in CI."""

import os

IN_CI = os.environ.get("CI") == "true"


def scaled(short: int, ci: int) -> int:
    """``ci`` in CI, else ``short``. The long forms run by ``python -m tools.faults``."""
    return ci if IN_CI else short
