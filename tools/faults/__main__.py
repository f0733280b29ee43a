"""``python -m tools.faults NAME [--short] [--count N] [--seed S]``: one harness, in its long form unless told otherwise.

Prints what it saw and keeps it, unless ``--dry``; ``python -m tools.faults report`` writes RELIABILITY.md of what was kept.
"""

import argparse
import logging
import random
import sys
import time

from tools.faults.report import REPORT, keep, write
from tools.faults.runs import RUNS


def _run(name: str, count: int, seed: int, *, dry: bool) -> bool:
    begin = time.monotonic()
    reached = RUNS[name].call(count, seed)
    seconds = time.monotonic() - begin
    for one in reached:
        print(f"{one.figure} {'as asked' if one.fine else 'NOT as asked'}: {one.value}", flush=True)
    print(f"{name}, {count} {RUNS[name].unit}, seed {seed}: {seconds:.0f} s", flush=True)
    if not dry:
        keep(f"python -m tools.faults {name} --count {count}", seed, seconds, reached)
    return all(one.fine for one in reached)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.faults", description=__doc__)
    parser.add_argument("name", choices=[*RUNS, "report"])
    parser.add_argument("--short", action="store_true", help="the size that CI runs")
    parser.add_argument("--count", type=int, help="how much, in the unit of the run")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--dry", action="store_true", help="keep nothing")
    arguments = parser.parse_args()
    if arguments.name == "report":
        write()
        print(f"wrote {REPORT}")
        return 0
    logging.disable(logging.ERROR)
    run = RUNS[arguments.name]
    count = arguments.count or (run.short if arguments.short else run.asked)
    return 0 if _run(arguments.name, count, arguments.seed, dry=arguments.dry) else 1


if __name__ == "__main__":
    sys.exit(main())
