"""``logbroker queue send|receive|peek|retry``: the messages of a queue.

What lives here: options to bodies, answers to rows. What may not: work on many dead letters, which is ``dead_letters``.
Invariant: ``receive --ack`` acknowledges a message only after it was printed.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import click

from logbroker.cli import failures
from logbroker.cli.framework import Command, Invocation, pass_invocation
from logbroker.cli.http_client import HttpClient, path
from logbroker.cli.input import batches, header, total_bytes
from logbroker.cli.output import note, print_rows, progress
from logbroker.cli.payloads import MESSAGE_FIELDS, formatted, readable
from logbroker.cli.positions import duration_ms, time_ms
from logbroker.cli.queue_views import PEEK_COLUMNS, STATES, LetterFilter, filter_options, message_row
from logbroker.errors import LogbrokerError

_MAX_RECEIVED = 1_000
_PEEK_PAGE = 100
RECEIVED_COLUMNS = ("id", "deliveries", "failures", "key", "value")
_SENT_COLUMNS = ("id", "partition", "offset", "duplicate")

Message = dict[str, Any]


def _client(invocation: Invocation) -> HttpClient:
    return HttpClient(invocation.url, invocation.timeout_s)


def tell_of_errors(results: Iterable[Message]) -> int:
    """Tell of each failed part of an answer. The exit code."""
    failed = [result["error"] for result in results if "error" in result]
    for error in failed:
        print(f"error[{error.get('code')}]: {error.get('detail')}", file=sys.stderr)
    return failures.PARTIAL if failed else 0


# -- sending -----------------------------------------------------------------------------------------------------------


def _moment(delay: str | None, moment: str | None) -> Message:
    """When to deliver, as the HTTP API takes it; empty where neither was given."""
    if delay is not None and moment is not None:
        raise click.UsageError("give one of --delay and --at")
    if delay is not None:
        return {"delay_ms": duration_ms(delay)}
    return {} if moment is None else {"deliver_at_ms": time_ms(moment)}


@click.command("send", cls=Command)
@click.argument("queue")
@click.option("--key", "-k", help="The key of every message.")
@click.option("--header", "-H", "headers", multiple=True, metavar="NAME:VALUE", help="A header of every message.")
@click.option("--priority", type=click.IntRange(0, 9), help="0, the lowest, to 9.")
@click.option("--delay", metavar="DURATION", help="Deliver after this time, as 30s or 2h.")
@click.option("--at", "moment", metavar="TIME", help="Deliver at this time, as 2026-11-24T10:00 (UTC).")
@click.option("--ttl", metavar="DURATION", help="Make it a dead letter when it was not done by then.")
@click.option("--dedup-id", metavar="ID", help="Send the one message of --input raw once, however often this is run.")
@click.option("--file", "files", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Input.")
@click.option(
    "--input",
    "kind",
    type=click.Choice(("lines", "jsonl", "raw")),
    default="lines",
    show_default=True,
    help="A message a line; a JSON message a line, as 'dlq export' prints them; the whole input as one message.",
)
@pass_invocation
def send(
    invocation: Invocation,
    /,
    queue: str,
    delay: str | None,
    moment: str | None,
    files: Sequence[Path],
    kind: str,
    dedup_id: str | None,
    **options: Any,
) -> int:
    """Send messages to QUEUE, from standard input or from files."""
    if dedup_id is not None and kind != "raw":
        raise click.UsageError("--dedup-id is of one message: use --input raw, or give dedup_id in --input jsonl")
    common = {**_common(**options), **_moment(delay, moment)}
    if dedup_id is not None:
        common["dedup_id"] = dedup_id
    results: list[Message] = []
    with _client(invocation) as client, progress(invocation, "bytes", total_bytes(files)) as bar:
        try:
            for batch in batches(files, kind, MESSAGE_FIELDS, bar):
                body = {"messages": [{**message, **common} for message in batch]}
                results += client.request("POST", path("queues", queue, "messages"), body=body)["results"]
        except LogbrokerError:
            if results:
                note(invocation, f"{sum('error' not in one for one in results)} messages were sent before this")
            raise
    print_rows(invocation, [one for one in results if "error" not in one], _SENT_COLUMNS)
    return tell_of_errors(results)


def _common(key: str | None, headers: Sequence[str], priority: int | None, ttl: str | None) -> Message:
    given = {
        "key": key,
        "headers": [header(text) for text in headers] or None,
        "priority": priority,
        "message_ttl_ms": None if ttl is None else duration_ms(ttl),
    }
    return {name: value for name, value in given.items() if value is not None}


# -- receiving ---------------------------------------------------------------------------------------------------------


@click.command("receive", cls=Command)
@click.argument("queue")
@click.option("--count", "-n", type=click.IntRange(1), default=1, show_default=True, help="At most so many messages.")
@click.option("--wait", default="0s", show_default=True, metavar="DURATION", help="Wait so long for a message, up to 60s.")
@click.option("--visibility-timeout", metavar="DURATION", help="Hold them so long; by default what the queue says.")
@click.option("--consumer", metavar="NAME", help="The name to be counted under.")
@click.option("--ack", "mode", flag_value="ack", help="Acknowledge each message once it is printed: it is done.")
@click.option("--peek", "mode", flag_value="peek", help="Only look at what is ready; nothing is received.")
@click.option("--format", "template", metavar="TEMPLATE", help=r"As '%k %v\n'; also %p %o %T time, %h headers.")
@pass_invocation
def receive(
    invocation: Invocation,
    /,
    queue: str,
    count: int,
    mode: str | None,
    template: str | None,
    wait: str,
    visibility_timeout: str | None,
    consumer: str | None,
) -> int:
    """Receive messages from QUEUE.

    With neither --ack nor --peek they are held until the visibility timeout is over and then come back; '-o json' shows
    the receipts with which they can be settled over HTTP.
    """
    with _client(invocation) as client:
        if mode == "peek":
            print_messages(invocation, _peeked(client, queue, {"state": "ready"}, count), template, RECEIVED_COLUMNS)
            return 0
        wanted: Message = {"encoding": "b64", "wait_ms": duration_ms(wait)}
        if visibility_timeout is not None:
            wanted["visibility_timeout_ms"] = duration_ms(visibility_timeout)
        if consumer is not None:
            wanted["consumer"] = consumer
        messages = received(client, path("queues", f"{queue}:receive"), wanted, count)
        print_messages(invocation, messages, template, RECEIVED_COLUMNS)
        if mode != "ack" or not messages:
            if messages:
                note(invocation, "they come back when their visibility timeout is over; --ack would settle them")
            return 0
        receipts = [message["receipt"] for message in messages]
        answer = client.request("POST", path("queues", f"{queue}:ack"), body={"receipts": receipts})
        return tell_of_errors(answer["results"])


def received(client: HttpClient, target: str, wanted: Message, count: int) -> list[Message]:
    """Up to ``count`` messages; only the first request waits."""
    messages: list[Message] = []
    while len(messages) < count:
        body = {**wanted, "max": min(count - len(messages), _MAX_RECEIVED)}
        wait_ms = body["wait_ms"]
        batch = client.request("POST", target, body=body, wait_ms=wait_ms)["messages"]
        if not batch:
            break
        messages += batch
        wanted = {**wanted, "wait_ms": 0}
    return messages


def print_messages(
    invocation: Invocation, messages: Sequence[Message], template: str | None, columns: Sequence[str]
) -> None:
    """Messages that were read in base64, by a template, as a table, or as JSON."""
    if template is not None:
        sys.stdout.buffer.write(b"".join(formatted(template, message) for message in messages))
    elif invocation.output == "table":
        print_rows(invocation, [message_row(message) for message in messages], columns)
    else:
        print_rows(invocation, [readable(message) for message in messages], columns)
    sys.stdout.flush()


# -- looking -----------------------------------------------------------------------------------------------------------


def _peeked(client: HttpClient, queue: str, query: Message, count: int) -> list[Message]:
    found: Iterator[Message] = client.pages(
        path("queues", queue, "messages"), {**query, "encoding": "b64"}, page_size=min(count, _PEEK_PAGE)
    )
    return list(islice(found, count))


@click.command("peek", cls=Command)
@click.argument("queue")
@click.option("--state", type=click.Choice(STATES), default="ready", show_default=True, help="Where they are.")
@click.option("--count", "-n", type=click.IntRange(1), default=10, show_default=True, help="At most so many messages.")
@filter_options
@pass_invocation
def peek(invocation: Invocation, queue: str, state: str, count: int, chosen: LetterFilter) -> None:
    """Look at messages of QUEUE, in any state. Nothing is changed by it."""
    with _client(invocation) as client:
        messages = _peeked(client, queue, {"state": state, **chosen.query()}, count)
    print_messages(invocation, messages, None, PEEK_COLUMNS[state])


# -- waiting messages --------------------------------------------------------------------------------------------------


@click.command("retry", cls=Command)
@click.argument("queue")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--delay", metavar="DURATION", help="Not now, but after this time.")
@click.option("--at", "moment", metavar="TIME", help="Not now, but at this time.")
@pass_invocation
def retry(invocation: Invocation, queue: str, ids: Sequence[str], delay: str | None, moment: str | None) -> int:
    """Deliver delayed and retrying messages of QUEUE now, or at another time. 'queue redrive' is for dead letters."""
    when = _moment(delay, moment)
    with _client(invocation) as client:

        def put_off(message_id: str) -> Message:
            target = path("queues", queue, "messages", message_id)
            query = {"encoding": "b64"}
            if when:
                return dict(client.request("PATCH", target, query, when))
            return dict(client.request("POST", f"{target}:promote", query))

        return _each(invocation, ids, put_off)


def _each(invocation: Invocation, ids: Sequence[str], change: Callable[[str], Message]) -> int:
    """Change each message. Raises the error of the only one; of several, each error is told of and the rest is done."""
    done: list[Message] = []
    errors: list[LogbrokerError] = []
    for message_id in ids:
        try:
            done.append(change(message_id))
        except LogbrokerError as error:
            if len(ids) == 1:
                raise
            errors.append(error)
    print_messages(invocation, done, None, ("id", "state", "due", "failures", "key", "value"))
    for refused in errors:
        failures.report(refused, invocation.output)
    return failures.PARTIAL if errors else 0
