"""Watching work that the broker goes on with by itself: redrive, discard, replay.

What lives here: following an operation to its end. What may not: beginning one.
Invariant: a follower that is interrupted stops the operation, and says how it is gone on with.
"""

import time
from typing import Any

from logbroker.cli import failures
from logbroker.cli.framework import Invocation
from logbroker.cli.http_client import HttpClient, path
from logbroker.cli.output import note, print_item, print_rows, progress

_POLL_S = 0.2
_CAN_GO_ON = ("redrive", "replay")

Row = dict[str, Any]


def follow(invocation: Invocation, client: HttpClient, operation: Row) -> int:
    """Wait for the end of an operation and print it. The exit code."""
    here = path("operations", operation["id"])
    handled = 0
    try:
        with progress(invocation, operation["kind"], None) as bar:
            while operation["state"] == "running":
                time.sleep(_POLL_S)
                operation = client.get(here)
                now_handled = operation["done"] + operation["failed"]
                bar.advance(now_handled - handled)
                handled = now_handled
    except KeyboardInterrupt:
        client.close()
        client.request("POST", f"{here}:cancel")
        rest = f"; go on with --go-on {operation['id']}" if operation["kind"] in _CAN_GO_ON else ""
        note(invocation, f"stopped, what is done stays done{rest}")
        raise
    if invocation.output == "table":
        print_rows(invocation, [operation], ("id", "kind", "state", "matched", "done", "failed", "error"))
    else:
        print_item(invocation, operation)
    if operation["state"] == "done":
        return failures.PARTIAL if operation["failed"] else 0
    return failures.FAILURE
