"""Controls: each harness finds the bugs that are planted for it, and nothing without them."""

import pytest

from tests.faults.planted import CONTROLS, caught


@pytest.mark.parametrize("name", CONTROLS)
def test_a_planted_bug_is_caught(name: str) -> None:
    assert not CONTROLS[name].catch(), "found without the bug"
    assert caught(name)
