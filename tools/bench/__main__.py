"""``python -m tools.bench NAME``: run one benchmark, print its table, write JSON where asked for."""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tools.bench import (
    compaction,
    fanout,
    filters,
    http,
    kafka,
    kafka_scale,
    log,
    queue,
    queue_order,
    queue_retries,
    queue_scale,
    replies,
    transactions,
    worker,
)
from tools.bench.measure import Figure, show, write_json
from tools.bench.servers.process import Missing

BENCHMARKS: dict[str, Callable[[Path], list[Figure]]] = {
    "compaction": compaction.run,
    "fanout": fanout.run,
    "filters": filters.run,
    "log": log.run,
    "http": http.run,
    "kafka": kafka.run,
    "kafka-scale": kafka_scale.run,
    "queue": queue.run,
    "queue-order": queue_order.run,
    "queue-retries": queue_retries.run,
    "queue-scale": queue_scale.run,
    "replies": replies.run,
    "transactions": transactions.run,
    "worker": worker.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("name", choices=BENCHMARKS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    parser.add_argument("--directory", type=Path, help="where to put the files (default: a temporary directory)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="logbroker-bench-", dir=arguments.directory) as directory:
        try:
            figures = BENCHMARKS[arguments.name](Path(directory))
        except Missing as missing:
            print(missing, file=sys.stderr)
            return 2
    title = f"tools/bench {arguments.name}"
    show(title, figures)
    if arguments.json is not None:
        write_json(arguments.json, title, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
