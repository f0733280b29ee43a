"""What the runs showed: kept in ``runs.json``, a line per figure, and told in RELIABILITY.md, asked beside reached.

What lives here: storing a result and writing the table. What may not: running anything. A later result of a figure
replaces an earlier one, whichever is better; what was never run says so.
"""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from tools.faults.figures import FIGURES

_HERE = Path(__file__).parent
REPORT = _HERE / "RELIABILITY.md"
RUNS = _HERE / "runs.json"
NOTES = _HERE / "NOTES.md"


class Reached(NamedTuple):
    """The value of one figure, and whether it is what was asked."""

    figure: str
    value: str
    fine: bool
    trials: int = 0
    """How many independent trials found nothing, for the bound of 3/N; 0 where that means nothing."""


def keep(command: str, seed: int, seconds: float, reached: Sequence[Reached]) -> None:
    """Store what a run showed."""
    known = _load()
    for one in reached:
        known[one.figure] = {
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "commit": _commit(),
            "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.release().split('-')[0]}, "
            f"Python {platform.python_version()}",
            "command": command,
            "seed": seed,
            "seconds": round(seconds),
            **one._asdict(),
        }
    RUNS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _load() -> dict[str, dict[str, Any]]:
    return json.loads(RUNS.read_text(encoding="utf-8")) if RUNS.exists() else {}


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=_HERE)
    return done.stdout.strip() or "unknown"


def write() -> None:
    """Write RELIABILITY.md from what is stored."""
    known = _load()
    lines = [
        "# What the fault harnesses showed",
        "",
        "Written by `python -m tools.faults report` from the last run of each figure.",
        "No failures in N independent trials bounds the rate at about 3/N (95 %), not at zero.",
        "",
        "| figure | asked | reached | as asked | date | commit | seed | command |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for figure in FIGURES:
        run = known.get(figure.number)
        if run is None:
            lines.append(
                f"| {figure.number} | {figure.asked} | not run | no | | | | `python -m tools.faults {figure.run}` |"
            )
            continue
        bound = f"; rate below {3 / run['trials']:.2g} each" if run["fine"] and run["trials"] else ""
        lines.append(
            f"| {figure.number} | {figure.asked} | {run['value']}{bound}; {run['seconds']} s | "
            f"{'yes' if run['fine'] else '**no**'} | {run['date']} | {run['commit']} | {run['seed']} | `{run['command']}` |"
        )
    machines = sorted({run["machine"] for run in known.values()})
    lines += ["", f"Machine: {'; '.join(machines)}.", ""]
    if NOTES.exists():
        lines += [NOTES.read_text(encoding="utf-8").strip(), ""]
    REPORT.write_text("\n".join(lines), encoding="utf-8")
