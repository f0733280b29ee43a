"""``logbroker request`` and ``logbroker reply``: ask a service, and be one.

What lives here: options to bodies, answers to output. What may not: threads and processes, which are ``workers``.
"""

import sys
import threading
from collections.abc import Sequence
from typing import Any

import click

from logbroker.cli.framework import Command, Invocation, pass_invocation
from logbroker.cli.http_client import HttpClient, path
from logbroker.cli.input import header
from logbroker.cli.output import note, print_item
from logbroker.cli.payloads import from_wire, to_wire
from logbroker.cli.positions import duration_ms
from logbroker.cli.workers import POLL_MS, Programs, Ran, work
from logbroker.errors import RequestGone


@click.command("request", cls=Command)
@click.argument("service")
@click.argument("body", required=False)
@click.option("--key", "-k", help="Requests of one key go to one partition.")
@click.option("--header", "-H", "headers", multiple=True, metavar="NAME:VALUE", help="A header of the request.")
@click.option("--wait", default="30s", show_default=True, metavar="DURATION", help="Wait so long for the reply, up to 60s.")
@pass_invocation
def request(
    invocation: Invocation, /, service: str, body: str | None, key: str | None, headers: Sequence[str], wait: str
) -> None:
    """Ask SERVICE and print its reply. Without BODY the request is what stands on standard input."""
    wait_ms = duration_ms(wait)
    data = sys.stdin.buffer.read() if body is None else body.encode()
    asked: dict[str, Any] = {**to_wire("value", data), "headers": [header(text) for text in headers]}
    if key is not None:
        asked["key"] = key
    target, query = path("services", f"{service}:request"), {"timeout_ms": wait_ms, "encoding": "b64"}
    with HttpClient(invocation.url, invocation.timeout_s) as client:
        reply = client.request("POST", target, query, asked, wait_ms=wait_ms)
    value = from_wire(reply, "value") or b""
    if invocation.output == "table":
        sys.stdout.buffer.write(value + b"\n" * (not value.endswith(b"\n")))
        return
    print_item(invocation, {"headers": reply["headers"], **to_wire("value", value)})


@click.command("reply", cls=Command)
@click.argument("service")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--echo", is_flag=True, help="Answer with the request itself, instead of running a command.")
@click.option("--concurrency", "-c", type=click.IntRange(1, 1_000), default=1, show_default=True, help="Runs at a time.")
@click.option("--kill-after", metavar="DURATION", help="Kill a command that runs longer, and say so to the requester.")
@pass_invocation
def reply(
    invocation: Invocation,
    /,
    service: str,
    command: Sequence[str],
    echo: bool,
    concurrency: int,
    kill_after: str | None,
) -> None:
    """Answer the requests of SERVICE with COMMAND, until a signal comes.

    The command gets the request on standard input; what it prints is the reply, and an exit code other than 0 is an error.
    Put '--' before the command: logbroker reply upper -- tr a-z A-Z
    """
    if echo == bool(command):
        raise click.UsageError("give a command, or --echo")
    programs = Programs(command, duration_ms(kill_after) / 1_000 if kill_after else None)
    counts = {"answered": 0, "late": 0}

    def turn(client: HttpClient, stop: threading.Event) -> bool:
        body = {"max": 1, "wait_ms": POLL_MS, "consumer": "reply", "encoding": "b64"}
        target = path("services", f"{service}:serve")
        for asked in client.request("POST", target, body=body, wait_ms=POLL_MS)["requests"]:
            ran = Ran(from_wire(asked, "value") or b"", None) if echo else programs.run(asked)
            said = to_wire("value", ran.output) if ran.error is None else {"error": ran.error}
            try:
                client.request("POST", path("replies", asked["token"]), body=said)
                counts["answered"] += 1
            except RequestGone:
                counts["late"] += 1
        return True

    note(invocation, f"listening to {service!r}")
    work(invocation, invocation.url, concurrency, turn, programs.end)
    print_item(invocation, counts)
