"""Mutated frames: no crash, nothing unforeseen in the log, memory bounded, and other clients are served as ever.

A short run here; ``LOGBROKER_FUZZ_FRAMES=100000`` makes it long and ``LOGBROKER_FUZZ_SEED`` another one. The broker is a
process of its own, so that its memory can be seen, and is logbroker as a user starts it.
"""

import os
from pathlib import Path

import pytest

from tests.kafka_api.fuzzing import attack, broker

FRAMES = int(os.environ.get("LOGBROKER_FUZZ_FRAMES", "3000"))
SEED = int(os.environ.get("LOGBROKER_FUZZ_SEED", "1"))
GROWTH_BYTES = 300 * 1024 * 1024
"""What the broker's memory may grow by at most. A bomb unpacked, or one size that was believed, is more."""


@pytest.mark.timeout(3600)
def test_mutated_frames_harm_nobody(tmp_path: Path) -> None:
    with broker(tmp_path) as server:
        done = attack(server, FRAMES, SEED)
    assert FRAMES // 20 < done.survived < FRAMES, "hardly a frame, or every one, was understood"
    assert done.is_alive
    assert done.errors == []
    assert done.most - done.at_rest < GROWTH_BYTES, done.summary()
    assert done.healthy_count > 10
    assert done.healthy_slowest_s < 10
