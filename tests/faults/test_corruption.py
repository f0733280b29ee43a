"""Every changed, cut or missing byte is detected or harmless. Some here, all by ``python -m tools.faults corruption``."""

import pytest

from tests.faults.corruption import WALKS
from tests.faults.scale import scaled

EVERY = scaled(97, 11)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("figure", WALKS)
def test_damage_is_detected_or_harmless(figure: str) -> None:
    walk = WALKS[figure](EVERY)
    assert walk.violations == [], walk.summary()
    assert walk.count >= 5
