"""Mutated requests: no crash, no 500, nothing unforeseen in the log, memory bounded, and other clients are served as ever.

A short run here; ``LOGBROKER_FUZZ_REQUESTS=200000`` makes it long and ``LOGBROKER_FUZZ_SEED`` another one.
"""

import os
from pathlib import Path

import pytest

from tests.http_api.fuzzing import attack, broker

REQUESTS = int(os.environ.get("LOGBROKER_FUZZ_REQUESTS", "2000"))
SEED = int(os.environ.get("LOGBROKER_FUZZ_SEED", "1"))
GROWTH_BYTES = 150 * 1024 * 1024


@pytest.mark.timeout(3600)
def test_mutated_requests_harm_nobody(tmp_path: Path) -> None:
    with broker(tmp_path) as server:
        done = attack(server, REQUESTS, SEED)
    assert done.server_errors == []
    assert done.errors == []
    assert done.is_alive
    assert done.most - done.at_rest < GROWTH_BYTES, done.summary()
    assert done.healthy_count > 10
    assert done.healthy_slowest_s < 10
    understood = sum(count for status, count in done.statuses.items() if 200 <= status < 300)
    assert REQUESTS // 20 < understood < REQUESTS, f"hardly a request, or every one, was understood: {done.summary()}"
