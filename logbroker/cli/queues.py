"""``logbroker queue``: create, describe, change, watch, pause, purge and delete work queues over HTTP.

What lives here: queues as wholes. What may not: messages (``queue_messages``), dead letters (``dead_letters``).
"""

import time
from collections.abc import Sequence
from typing import Any

import click

from logbroker.cli.dead_letters import redrive
from logbroker.cli.framework import Group, Invocation, pass_invocation
from logbroker.cli.http_client import HttpClient, path
from logbroker.cli.output import duration, note, print_item, print_rows, timestamp
from logbroker.cli.positions import time_ms
from logbroker.cli.queue_messages import peek, receive, retry, send
from logbroker.cli.queue_work import queue_work
from logbroker.cli.view_settings import flat, nested, parsed, place_in, setting_option

WATCH_S = 2.0
_STATES = ("ready", "in_flight", "delayed", "retrying", "dead")
_STATS_COLUMNS = ("name", *_STATES, "oldest", "sent", "acked", "failed", "retried", "expired", "dead_lettered")
_CONSUMER_COLUMNS = ("consumer", "received", "processed", "errors", "in_flight", "last_seen")
_FAILURES = ("nacked", "rejected", "lease_expired")

Row = dict[str, Any]


@click.group(cls=Group)
def queue() -> None:
    """Work queues: create, send, receive, look into, change, delete."""


for command in (send, receive, queue_work, peek, retry, redrive):
    queue.add_command(command)


def _client(invocation: Invocation) -> HttpClient:
    return HttpClient(invocation.url, invocation.timeout_s)


@queue.command("create")
@click.argument("name")
@setting_option
@click.option("--start", metavar="PLACE", help="Where an existing topic is read from: earliest, latest, an offset, a time.")
@pass_invocation
def create(invocation: Invocation, name: str, settings: Sequence[str], start: str | None) -> None:
    """Create the queue NAME, over the topic NAME where there is one. Creating it again alike changes nothing."""
    body = nested(parsed(settings))
    if start is not None:
        body["start"] = place_in(start)
    with _client(invocation) as client:
        _print_queue(invocation, client.request("PUT", path("queues", name), body=body))


@queue.command("alter")
@click.argument("name")
@setting_option
@click.option("--unset", multiple=True, metavar="NAME", help="A setting that is to have its default again.")
@pass_invocation
def alter(invocation: Invocation, name: str, settings: Sequence[str], unset: Sequence[str]) -> None:
    """Change settings of the queue NAME."""
    changes = nested({**parsed(settings), **dict.fromkeys(unset)})
    if not changes:
        raise click.UsageError("nothing to change: give --config NAME=VALUE or --unset NAME")
    with _client(invocation) as client:
        _print_queue(invocation, client.request("PATCH", path("queues", name), body=changes))


# -- looking -----------------------------------------------------------------------------------------------------------


@queue.command("ls")
@click.argument("prefix", default="")
@pass_invocation
def list_queues(invocation: Invocation, prefix: str) -> None:
    """List queues, those whose name starts with PREFIX."""
    with _client(invocation) as client:
        rows = list(client.pages(path("queues"), {"prefix": prefix}))
    _print_queues(invocation, rows, ("name", *_STATES, "oldest", "paused"))


@queue.command("describe")
@click.argument("name")
@pass_invocation
def describe(invocation: Invocation, name: str) -> None:
    """Show the queue NAME: what waits in it, its settings, and who works on it."""
    with _client(invocation) as client:
        info = client.get(path("queues", name))
        consumers = list(client.pages(path("queues", name, "consumers")))
    if invocation.output != "table":
        print_item(invocation, {**info, "consumer_details": consumers})
        return
    _print_queue(invocation, info)
    if consumers:
        print()
        shown = [{**row, "last_seen": timestamp(row["last_seen_ms"])} for row in consumers]
        print_rows(invocation, shown, _CONSUMER_COLUMNS)


def _print_queue(invocation: Invocation, info: Row) -> None:
    if invocation.output == "table":
        config, counts, totals = info.pop("config"), info.pop("counts"), info.pop("totals")
        info |= counts | totals | flat(config)
    print_item(invocation, info)


def _print_queues(invocation: Invocation, rows: Sequence[Row], columns: Sequence[str]) -> None:
    if invocation.output == "table":
        rows = [_counted(row) for row in rows]
    print_rows(invocation, rows, columns)


def _counted(info: Row) -> Row:
    totals = info["totals"]
    failed = sum(totals.get(name, 0) for name in _FAILURES)
    return {**info, **totals, **info["counts"], "failed": failed, "oldest": duration(info["oldest_age_ms"])}


@queue.command("stats")
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--watch", "-w", is_flag=True, help="Show it anew every 2 seconds.")
@pass_invocation
def stats(invocation: Invocation, names: Sequence[str], watch: bool) -> None:
    """Show what waits in queues, and what happened to messages since the broker started."""
    with _client(invocation) as client:
        while True:
            wanted = [client.get(path("queues", name)) for name in names]
            rows = wanted if names else list(client.pages(path("queues")))
            if watch and invocation.output == "table":
                click.clear()
            _print_queues(invocation, rows, _STATS_COLUMNS)
            if not watch:
                return
            time.sleep(WATCH_S)


# -- the whole queue ---------------------------------------------------------------------------------------------------


@queue.command("pause")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@pass_invocation
def pause(invocation: Invocation, names: Sequence[str]) -> None:
    """Deliver nothing from queues until 'queue resume'; messages are still taken."""
    _tell(invocation, names, "pause", "paused")


@queue.command("resume")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@pass_invocation
def resume(invocation: Invocation, names: Sequence[str]) -> None:
    """Deliver from queues again."""
    _tell(invocation, names, "resume", "resumed")


def _tell(invocation: Invocation, names: Sequence[str], verb: str, done: str) -> None:
    with _client(invocation) as client:
        for name in names:
            client.request("POST", path("queues", f"{name}:{verb}"))
            note(invocation, f"{done} queue {name!r}")


def _waiting(info: Row) -> str:
    counts = info["counts"]
    return ", ".join(f"{counts[state]} {state.replace('_', ' ')}" for state in _STATES[:4])


@queue.command("purge")
@click.argument("name")
@click.option("--before", metavar="TIME", help="Only messages sent before this time, as 2026-11-24T10:00 or 10m (ago).")
@pass_invocation
def purge(invocation: Invocation, name: str, before: str | None) -> None:
    """Drop all messages that wait in the queue NAME. Its dead letters stay; 'dlq discard' is for them."""
    body: Row = {"confirm": name}
    if before is not None:
        body["before_ms"] = time_ms(before)
    with _client(invocation) as client:
        info = client.get(path("queues", name))
        limit = "" if before is None else f", those sent before {timestamp(body['before_ms'])}"
        invocation.confirm(f"This drops the messages of queue {name!r} for good ({_waiting(info)}){limit}.")
        client.request("POST", path("queues", f"{name}:purge"), body=body)
    note(invocation, f"purged queue {name!r}")


@queue.command("delete")
@click.argument("name")
@click.option("--keep-topic", is_flag=True, help="Leave the topic with its records.")
@pass_invocation
def delete(invocation: Invocation, name: str, keep_topic: bool) -> None:
    """Delete the queue NAME with its messages, retries and dead letters."""
    with _client(invocation) as client:
        info = client.get(path("queues", name))
        topic = "; the records of its topic stay" if keep_topic else ""
        dead = info["counts"]["dead"]
        invocation.confirm(f"This deletes queue {name!r} ({_waiting(info)}) and its {dead} dead letters{topic}.")
        client.request("DELETE", path("queues", name), {"keep_topic": "true" if keep_topic else None})
    note(invocation, f"deleted queue {name!r}")
