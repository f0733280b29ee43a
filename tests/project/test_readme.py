"""The README says what is so: its commands run, in order, against a broker, and print what it shows.

A fenced ``sh`` block is run; a ``text`` block right after it is what it prints, where ``...`` stands for anything.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.crash.broker import Broker

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
URL = "http://127.0.0.1:8080"
KAFKA = "127.0.0.1:9092"

_BLOCK = re.compile(r"^```sh\n(?P<commands>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```\n)?", re.MULTILINE | re.DOTALL)
_ELSEWHERE = ("./tools/", "logbroker demo flights")
"""Commands that have tests of their own: ``test_tools.py`` and ``tests/cli/test_flights.py``."""

# A refused request must fail its block, which curl alone does not see to.
_PROLOGUE = 'set -euo pipefail\ncurl() { command curl --fail-with-body "$@"; }\n'


class Block(NamedTuple):
    commands: str
    output: str | None


def blocks() -> list[Block]:
    return [Block(found["commands"], found["output"]) for found in _BLOCK.finditer(README)]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that serves ``data`` in the working directory, with both doors open."""
    broker = Broker(tmp_path, kafka=True)
    broker.start()
    broker.wait_until_ready()
    yield broker
    assert broker.stop() == 0


def matches(shown: str, printed: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in shown.strip().split("..."))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_command_of_the_readme_does_what_it_says(tmp_path: Path, broker: Broker) -> None:
    url = f"http://127.0.0.1:{broker.port}"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {**os.environ, "LOGBROKER_URL": url, "PATH": path}
    ran = 0
    for block in blocks():
        if block.commands.startswith(_ELSEWHERE):
            continue
        script = _PROLOGUE + block.commands.replace(URL, url).replace(KAFKA, f"127.0.0.1:{broker.kafka_port}")
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{block.commands}\nfailed: {done.stdout}{done.stderr}"
        if block.output is not None:
            assert matches(block.output, done.stdout), f"{block.commands}\nprinted:\n{done.stdout}"
        ran += 1
    assert ran >= 12


def test_what_the_readme_points_at_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    sources = re.findall(
        r"`((?:logbroker/|http_api/|broker/|engine/|log/|records/|groups/|queues/|kafka_api/|wire/)?\w[\w/]*\.py)`", README
    )
    assert links
    assert sources
    for link in links:
        assert link.startswith("http") or (ROOT / link).exists(), link
    for source in sources:
        assert (ROOT / source).exists() or (ROOT / "logbroker" / source).exists(), source
