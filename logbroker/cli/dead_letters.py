"""``logbroker dlq``, and ``queue redrive``: look at dead letters, send them back, drop them.

What lives here: choosing letters, showing the plan, following the operation. What may not: the work, which the broker does.
Invariant: nothing is sent back without --execute and nothing dropped without --yes or an answer; a follower that is
interrupted stops the operation, which can be gone on with.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, BinaryIO
from urllib.parse import quote

import click

from logbroker.cli.framework import Command, Group, Invocation, pass_invocation
from logbroker.cli.http_client import HttpClient, path
from logbroker.cli.operations import follow
from logbroker.cli.output import note, print_item, print_rows, timestamp
from logbroker.cli.payloads import readable, to_wire
from logbroker.cli.queue_views import PEEK_COLUMNS, LetterFilter, filter_options, message_row, shortened
from logbroker.errors import QueueNotFound, SubscriptionNotFound

_COLUMNS = PEEK_COLUMNS["dead"]

Row = dict[str, Any]


@click.group(cls=Group)
def dlq() -> None:
    """Dead letters: look at them, send them back, drop them."""


def _client(invocation: Invocation) -> HttpClient:
    return HttpClient(invocation.url, invocation.timeout_s)


def _home(client: HttpClient, name: str) -> str:
    """The path of the queue or subscription of that name. Raises QueueNotFound."""
    try:
        client.get(path("queues", name))
    except QueueNotFound:
        with suppress(SubscriptionNotFound):
            client.get(path("subscriptions", name))
            return path("subscriptions", name)
        raise
    return path("queues", name)


def _messages(client: HttpClient, name: str) -> str:
    return f"{_home(client, name)}/messages"


# -- looking -----------------------------------------------------------------------------------------------------------


def _letters(client: HttpClient, queue: str, chosen: LetterFilter) -> Iterator[Row]:
    query = {"state": "dead", "encoding": "b64", **chosen.query()}
    return client.lines(_messages(client, queue), query)


@dlq.command("ls")
@click.argument("queue", required=False)
@click.option("--count", "-n", type=click.IntRange(1), default=100, show_default=True, help="At most so many letters.")
@filter_options
@pass_invocation
def list_letters(invocation: Invocation, queue: str | None, count: int, chosen: LetterFilter) -> None:
    """List the dead letters of QUEUE (or a subscription); without QUEUE, how many each has."""
    with _client(invocation) as client:
        if queue is None:
            _print_queues(invocation, [*client.pages(path("queues")), *client.pages(path("subscriptions"))])
            return
        query = {"state": "dead", "encoding": "b64", **chosen.query()}
        pages = client.pages(_messages(client, queue), query, page_size=min(count, 100))
        letters = [letter for letter, _ in zip(pages, range(count), strict=False)]
    _print_letters(invocation, letters)


def _print_queues(invocation: Invocation, queues: Sequence[Row]) -> None:
    if invocation.output == "table":
        queues = [{**one, "dead": one["counts"]["dead"], "at_most": one["config"]["dlq"]["max_size"]} for one in queues]
    print_rows(invocation, queues, ("name", "dead", "at_most"))


def _print_letters(invocation: Invocation, letters: Sequence[Row]) -> None:
    render: Callable[[Row], Row] = message_row if invocation.output == "table" else readable
    print_rows(invocation, [render(letter) for letter in letters], _COLUMNS)


@dlq.command("show")
@click.argument("queue")
@click.argument("letter", metavar="ID")
@pass_invocation
def show(invocation: Invocation, queue: str, letter: str) -> None:
    """Show one dead letter of QUEUE whole: its payload, its errors, and what happened to it."""
    with _client(invocation) as client:
        shown = readable(client.get(f"{_messages(client, queue)}/{quote(letter, safe='')}", {"encoding": "b64"}))
    if invocation.output == "table":
        history = shown.pop("history")
        print_item(invocation, _for_people(shown))
        print()
        rows = [{**one, "first": timestamp(one["first_ms"]), "last": timestamp(one["last_ms"])} for one in history]
        print_rows(invocation, rows, ("queue", "reason", "count", "first", "last"))
    else:
        print_item(invocation, shown)


def _for_people(letter: Row) -> Row:
    """What is known of a letter, times as people read them, and what follows in a text of several lines indented."""
    times = {"sent": timestamp(letter.pop("timestamp_ms")), "died": timestamp(letter.pop("due_ms"))}
    known = {name: value for name, value in {**letter, **times}.items() if value is not None}
    indent = "\n" + " " * (max(map(len, known)) + 2)
    return {name: value.replace("\n", indent) if isinstance(value, str) else value for name, value in known.items()}


@dlq.command("errors")
@click.argument("queue")
@filter_options
@pass_invocation
def errors(invocation: Invocation, queue: str, chosen: LetterFilter) -> None:
    """Count the dead letters of QUEUE by reason and by the first line of their last error, the most frequent first."""
    groups: dict[tuple[str, str | None], Row] = {}
    with _client(invocation) as client:
        for letter in _letters(client, queue, chosen):
            _count(groups, letter)
    rows = sorted(groups.values(), key=lambda row: -row["count"])
    if invocation.output == "table":
        rows = [{**row, "error": shortened(row["error"]), "last": timestamp(row["last_ms"])} for row in rows]
    print_rows(invocation, rows, ("count", "reason", "error", "last", "example"))


def _count(groups: dict[tuple[str, str | None], Row], letter: Row) -> None:
    error = letter["last_error"]
    line = None if error is None else error.strip().partition("\n")[0]
    died = [one["last_ms"] for one in letter["history"]] or [letter["timestamp_ms"]]
    fresh = {"count": 0, "reason": letter["reason"], "error": line, "last_ms": died[-1], "example": letter["id"]}
    group = groups.setdefault((letter["reason"], line), fresh)
    group["count"] += 1
    group["last_ms"] = max(group["last_ms"], *died)


@dlq.command("export")
@click.argument("queue")
@filter_options
@pass_invocation
def export(invocation: Invocation, queue: str, chosen: LetterFilter) -> None:
    """Print the dead letters of QUEUE, one JSON object a line; 'queue send --input jsonl' takes them."""
    lines = replace(invocation, output="json" if invocation.output == "json" else "jsonl")
    with _client(invocation) as client:
        print_rows(lines, map(readable, _letters(client, queue, chosen)), ())


# -- sending back and dropping -----------------------------------------------------------------------------------------

_ids_argument = click.argument("ids", nargs=-1, metavar="[ID...]")
_max_option = click.option("--max", "limit", type=click.IntRange(1), metavar="N", help="At most N of them.")


def _selection(ids: Sequence[str], chosen: LetterFilter, limit: int | None) -> Row:
    """Which letters, as the HTTP API takes it. Raises click.UsageError."""
    if ids and any(chosen):
        raise click.UsageError("give IDs or a filter, not both; without either, all are meant")
    parts = {"ids": list(ids) or None, "filter": chosen.body() or None, "max": limit}
    return {name: value for name, value in parts.items() if value is not None}


@click.command("redrive", cls=Command)
@click.argument("queue")
@_ids_argument
@filter_options
@_max_option
@click.option("--rate", type=click.FloatRange(0, min_open=True), metavar="N", help="At most N letters a second.")
@click.option("--file", "edited", type=click.File("rb"), help="The new value of the one letter with this ID; - for stdin.")
@click.option("--go-on", metavar="OPERATION", help="Go on with a redrive that was interrupted.")
@click.option("--execute", is_flag=True, help="Do it; otherwise the plan is shown.")
@pass_invocation
def redrive(
    invocation: Invocation,
    /,
    queue: str,
    ids: Sequence[str],
    chosen: LetterFilter,
    limit: int | None,
    execute: bool,
    edited: BinaryIO | None,
    go_on: str | None,
    rate: float | None,
) -> int:
    """Send dead letters back to QUEUE: those with an ID, those that match a filter, or all.

    Shows what would be sent back; --execute does it.
    """
    selection = _selection(ids, chosen, limit)
    if edited is not None and len(ids) != 1:
        raise click.UsageError("--file edits one letter: give its ID")
    with _client(invocation) as client:
        if go_on is not None:
            return follow(invocation, client, client.request("POST", path("operations", f"{go_on}:resume")))
        if not execute:
            return _plan(invocation, client, queue, selection)
        if edited is not None:
            return _edit(invocation, client, f"{_messages(client, queue)}/{quote(ids[0], safe='')}:redrive", edited.read())
        body = {**selection, "dry_run": False, **({} if rate is None else {"rate": rate})}
        begun = client.request("POST", f"{_home(client, queue)}:redrive", body=body)
        return follow(invocation, client, begun["operation"])


def _matched(client: HttpClient, queue: str, selection: Row) -> Row:
    return dict(client.request("POST", f"{_home(client, queue)}:redrive", body={**selection, "dry_run": True}))


def _plan(invocation: Invocation, client: HttpClient, queue: str, selection: Row) -> int:
    plan = _matched(client, queue, selection)
    if invocation.output == "table":
        print_rows(invocation, [message_row(one) for one in plan["sample"]], _COLUMNS)
    else:
        print_item(invocation, plan)
    shown = len(plan["sample"])
    first = f" (the first {shown} are shown)" if shown < plan["matched"] else ""
    note(invocation, f"nothing was changed: {plan['matched']} would be sent back{first}; --execute carries it out")
    return 0


def _edit(invocation: Invocation, client: HttpClient, target: str, value: bytes) -> int:
    letter = client.request("POST", target, {"encoding": "b64"}, to_wire("value", value))
    _print_letters(invocation, [letter])
    return 0


@dlq.command("discard")
@click.argument("queue")
@_ids_argument
@filter_options
@_max_option
@pass_invocation
def discard(invocation: Invocation, queue: str, ids: Sequence[str], chosen: LetterFilter, limit: int | None) -> int:
    """Drop dead letters of QUEUE for good: those with an ID, those that match a filter, or all."""
    selection = _selection(ids, chosen, limit)
    with _client(invocation) as client:
        matched = _matched(client, queue, selection)["matched"]
        invocation.confirm(f"This drops {matched} dead letters of queue {queue!r} for good.")
        body = {**selection, "confirm": queue}
        begun = client.request("POST", f"{_home(client, queue)}:discard", body=body)
        return follow(invocation, client, begun["operation"])


dlq.add_command(redrive)
