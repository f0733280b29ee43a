"""``logbroker queue work QUEUE -- COMMAND``: a program as the worker of a queue.

What lives here: a message's way through one run of the program. What may not: threads and processes, which are ``workers``.
Invariant: a message is acknowledged only after the program has ended with exit code 0.
"""

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import click

from logbroker.cli.framework import Command, Invocation, pass_invocation
from logbroker.cli.http_client import HttpClient, path
from logbroker.cli.output import note, print_item
from logbroker.cli.positions import duration_ms
from logbroker.cli.workers import POLL_MS, Programs, work
from logbroker.errors import LeaseLost, LogbrokerError

_FEWEST_MS = 1_000


@click.command("work", cls=Command)
@click.argument("queue")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--concurrency", "-c", type=click.IntRange(1, 1_000), default=1, show_default=True, help="Runs at a time.")
@click.option("--visibility-timeout", metavar="DURATION", help="The lease, renewed while the command runs.")
@click.option("--kill-after", metavar="DURATION", help="Kill a command that runs longer; its message has failed.")
@click.option("--exit-when-empty", is_flag=True, help="End when nothing is ready, instead of waiting for more.")
@click.option("--consumer", metavar="NAME", default="queue work", show_default=True, help="The name to be counted under.")
@pass_invocation
def queue_work(
    invocation: Invocation,
    /,
    queue: str,
    command: Sequence[str],
    concurrency: int,
    visibility_timeout: str | None,
    kill_after: str | None,
    exit_when_empty: bool,
    consumer: str,
) -> None:
    """Run COMMAND once for each message of QUEUE: exit code 0 acknowledges it, any other has failed.

    The command gets the message's value on standard input, and LOGBROKER_ID, LOGBROKER_KEY, LOGBROKER_DELIVERIES,
    LOGBROKER_FAILURES and LOGBROKER_HEADER_NAME in its environment. Its standard error is kept with a failure.
    Put '--' before the command: logbroker queue work emails -c 4 -- ./send-mail --html
    """
    with HttpClient(invocation.url, invocation.timeout_s) as client:
        described = client.get(path("queues", queue))
    lease_ms = duration_ms(visibility_timeout) if visibility_timeout else described["config"]["visibility_timeout_ms"]
    programs = Programs(command, duration_ms(kill_after) / 1_000 if kill_after else None)
    wanted = {"visibility_timeout_ms": max(_FEWEST_MS, lease_ms), "consumer": consumer, "encoding": "b64"}
    worker = _Worker(invocation, queue, wanted, programs, exit_when_empty)
    work(invocation, invocation.url, concurrency, worker.turn, programs.end)
    print_item(invocation, worker.counts)


@dataclass(slots=True)
class _Worker:
    """The rounds of all threads."""

    invocation: Invocation
    queue: str
    wanted: dict[str, Any]
    programs: Programs
    exit_when_empty: bool
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("acked", "failed", "lease_lost"), 0))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def turn(self, client: HttpClient, stop: threading.Event) -> bool:
        wait_ms = 0 if self.exit_when_empty else POLL_MS
        body = {**self.wanted, "wait_ms": wait_ms}
        messages = client.request("POST", path("queues", f"{self.queue}:receive"), body=body, wait_ms=wait_ms)["messages"]
        for message in messages:
            self._one(client, message)
        return bool(messages) or not self.exit_when_empty

    def _one(self, client: HttpClient, message: dict[str, Any]) -> None:
        receipt = {"receipt": message["receipt"]}
        lease_ms = self.wanted["visibility_timeout_ms"]

        def extend() -> None:
            with suppress(LogbrokerError):  # if it matters, the settlement will say so
                self._settle(client, "extend", {**receipt, "visibility_timeout_ms": lease_ms})

        ran = self.programs.run(message, lease_ms / 3_000, extend)
        try:
            if ran.error is None:
                client.request("POST", path("queues", f"{self.queue}:ack"), body={"receipts": [message["receipt"]]})
                self._count("acked")
            else:
                self._settle(client, "nack", {**receipt, "error": ran.error})
                self._count("failed")
                note(self.invocation, f"{message['id']} failed: {ran.error}")
        except LeaseLost:
            self._count("lease_lost")
            note(self.invocation, f"{message['id']}: the lease was lost meanwhile, so another worker may do it again")

    def _settle(self, client: HttpClient, verb: str, entry: dict[str, Any]) -> None:
        client.request("POST", path("queues", f"{self.queue}:{verb}"), body={"entries": [entry]})

    def _count(self, name: str) -> None:
        with self.lock:
            self.counts[name] += 1
