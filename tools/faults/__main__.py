"""``python -m tools.faults kill [--kills N] [--seed S]``: the kill loop of ``tests/crash``, as long as you like.

Prints what it saw, and with ``--report`` adds it to RELIABILITY.md beside this file: date, commit, machine, seed, result.
"""

import argparse
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.crash.checker import check
from tests.crash.kill_loop import run

REPORT = Path(__file__).with_name("RELIABILITY.md")
_HEADING = """# What the fault harnesses showed

Each row is one run of `python -m tools.faults`. No failures in N trials means a rate below about 3/N, not zero.

| date | commit | machine | run | seed | result |
|---|---|---|---|---|---|
"""


def kill(kills: int, seed: int) -> tuple[bool, str]:
    """Run the loop; whether all was well, and what to say of it."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="logbroker-kill-") as directory:
        done = run(Path(directory), kills, seed)
    anomalies = check(done.history)
    found = "; ".join(f"{len(cases)} {name} ({cases[0]})" for name, cases in anomalies.items()) or "no anomaly"
    fine = not anomalies and done.exit_code == 0
    return fine, f"{found}; exit code {done.exit_code}; {done.summary()}; {time.monotonic() - begin:.0f} s"


def _append(run_name: str, seed: int, result: str) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True, cwd=REPORT.parent
    )
    machine = f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    text = REPORT.read_text(encoding="utf-8") if REPORT.exists() else _HEADING
    row = f"| {date} | {commit.stdout.strip()} | {machine} | {run_name} | {seed} | {result} |\n"
    REPORT.write_text(text + row, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.faults", description=__doc__)
    parser.add_argument("name", choices=["kill"])
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--report", action="store_true", help=f"add a row to {REPORT.name}")
    arguments = parser.parse_args()
    fine, result = kill(arguments.kills, arguments.seed)
    print(f"{arguments.kills} kills, seed {arguments.seed}: {result}")
    if arguments.report:
        _append(f"{arguments.kills} x SIGKILL under HTTP produces", arguments.seed, result)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
