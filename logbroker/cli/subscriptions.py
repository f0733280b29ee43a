"""``logbroker sub``: subscriptions over HTTP: list, create, change, describe, pull, seek, delete; and trying a filter.

What lives here: options to bodies, answers to rows. What may not: the rules, which are the broker's.
"""

from collections.abc import Sequence
from typing import Any

import click

from logbroker.cli import failures
from logbroker.cli.framework import Group, Invocation, pass_invocation
from logbroker.cli.http_client import HttpClient, path
from logbroker.cli.input import header
from logbroker.cli.output import duration, note, print_item, print_rows
from logbroker.cli.positions import duration_ms
from logbroker.cli.queue_messages import RECEIVED_COLUMNS, print_messages, received, tell_of_errors
from logbroker.cli.view_settings import flat, nested, parsed, place_in, setting_option

_COLUMNS = ("name", "topic", "filter", "backlog", "in_flight", "dead", "oldest", "consumers")
_PARTITION_COLUMNS = ("partition", "frontier", "read", "end")
_SEEK_COLUMNS = ("partition", "from_offset", "to_offset", "end_offset", "voided_leases", "voided_retries")
_PLACES = "earliest, latest, an offset, a time as 2026-11-24T10:00 or 10m (ago), or snapshot:NAME"

Row = dict[str, Any]


@click.group(cls=Group)
def sub() -> None:
    """Subscriptions: many readers of a topic, each with its own filter."""


def _client(invocation: Invocation) -> HttpClient:
    return HttpClient(invocation.url, invocation.timeout_s)


# -- declaring ---------------------------------------------------------------------------------------------------------


@sub.command("create")
@click.argument("name")
@click.argument("topic")
@click.option("--filter", "expression", metavar="CEL", help="Only records for which this is true.")
@click.option("--start", metavar="PLACE", default="latest", show_default=True, help=f"Where it begins: {_PLACES}.")
@setting_option
@pass_invocation
def create(
    invocation: Invocation, /, name: str, topic: str, expression: str | None, start: str, settings: Sequence[str]
) -> None:
    """Create the subscription NAME over TOPIC. Creating it again alike changes nothing."""
    body = {**nested(parsed(settings)), "topic": topic, "start": place_in(start)}
    if expression is not None:
        body["filter"] = expression
    with _client(invocation) as client:
        _print(invocation, client.request("PUT", path("subscriptions", name), body=body))


@sub.command("alter")
@click.argument("name")
@click.option("--filter", "expression", metavar="CEL", help="Another filter, for what was not read yet.")
@setting_option
@click.option("--unset", multiple=True, metavar="NAME", help="A setting that is to have its default again, as filter.")
@pass_invocation
def alter(
    invocation: Invocation, /, name: str, expression: str | None, settings: Sequence[str], unset: Sequence[str]
) -> None:
    """Change settings of the subscription NAME."""
    given = {} if expression is None else {"filter": expression}
    changes = nested({**parsed(settings), **dict.fromkeys(unset), **given})
    if not changes:
        raise click.UsageError("nothing to change: give --filter, --config NAME=VALUE or --unset NAME")
    with _client(invocation) as client:
        _print(invocation, client.request("PATCH", path("subscriptions", name), body=changes))


@sub.command("delete")
@click.argument("name")
@pass_invocation
def delete(invocation: Invocation, name: str) -> None:
    """Delete the subscription NAME with its retries and dead letters. The topic stays."""
    with _client(invocation) as client:
        info = _row(client.get(path("subscriptions", name)))
        plan = f"This deletes subscription {name!r}: {info['backlog']} records of {info['topic']!r} it has not done"
        invocation.confirm(f"{plan} stay there, its {info['dead']} dead letters do not.")
        client.request("DELETE", path("subscriptions", name))
    note(invocation, f"deleted subscription {name!r}")


# -- looking -----------------------------------------------------------------------------------------------------------


@sub.command("ls")
@click.argument("prefix", default="")
@pass_invocation
def list_subscriptions(invocation: Invocation, prefix: str) -> None:
    """List subscriptions, those whose name starts with PREFIX."""
    with _client(invocation) as client:
        rows = list(client.pages(path("subscriptions"), {"prefix": prefix}))
    print_rows(invocation, [_row(row) for row in rows] if invocation.output == "table" else rows, _COLUMNS)


@sub.command("describe")
@click.argument("name")
@pass_invocation
def describe(invocation: Invocation, name: str) -> None:
    """Show the subscription NAME: what waits for it, its settings, and where it is."""
    with _client(invocation) as client:
        _print(invocation, client.get(path("subscriptions", name)))


def _row(info: Row) -> Row:
    counts = info["counts"]
    backlog = sum(counts[state] for state in ("ready", "in_flight", "delayed", "retrying"))
    return {**info, **info["config"], **counts, "backlog": backlog, "oldest": duration(info["oldest_age_ms"])}


def _print(invocation: Invocation, info: Row) -> None:
    if invocation.output != "table":
        print_item(invocation, info)
        return
    partitions = info["partitions"]
    shown = {
        name: value for name, value in info.items() if name not in ("config", "counts", "totals", "partitions", "filters")
    }
    older = [one["filter"] or "(all)" for one in info["filters"][:-1]]
    if older:
        shown["older_filters"] = older
    print_item(invocation, shown | info["counts"] | info["totals"] | flat(info["config"]))
    print()
    print_rows(invocation, partitions, _PARTITION_COLUMNS)


# -- reading -----------------------------------------------------------------------------------------------------------


@sub.command("pull")
@click.argument("name")
@click.option("--count", "-n", type=click.IntRange(1), default=1, show_default=True, help="At most so many messages.")
@click.option("--wait", default="0s", show_default=True, metavar="DURATION", help="Wait so long for a message, up to 60s.")
@click.option("--consumer", metavar="NAME", help="The name to be counted under.")
@click.option("--ack", is_flag=True, help="Acknowledge the messages once they are printed: they are done.")
@click.option("--format", "template", metavar="TEMPLATE", help=r"As '%k %v\n'; also %p %o %T time, %h headers.")
@pass_invocation
def pull(
    invocation: Invocation, /, name: str, count: int, wait: str, consumer: str | None, ack: bool, template: str | None
) -> int:
    """Pull messages of the subscription NAME; without --ack they come back when the ack deadline is over."""
    wanted: Row = {"encoding": "b64", "wait_ms": duration_ms(wait)}
    if consumer is not None:
        wanted["consumer"] = consumer
    with _client(invocation) as client:
        messages = received(client, path("subscriptions", f"{name}:pull"), wanted, count)
        print_messages(invocation, messages, template, RECEIVED_COLUMNS)
        if not messages or not ack:
            if messages:
                note(invocation, "they come back when the ack deadline is over; --ack would settle them")
            return 0
        body = {"receipts": [message["receipt"] for message in messages]}
        return tell_of_errors(client.request("POST", path("subscriptions", f"{name}:ack"), body=body)["results"])


@sub.command("seek")
@click.argument("name")
@click.option("--to", "place", required=True, metavar="PLACE", help=f"{_PLACES[0].upper()}{_PLACES[1:]}.")
@click.option("--execute", is_flag=True, help="Do it; otherwise the plan is shown.")
@pass_invocation
def seek(invocation: Invocation, name: str, place: str, execute: bool) -> None:
    """Send the subscription NAME to another place. What is held and what waits for a retry is void.

    Shows the plan; --execute carries it out.
    """
    with _client(invocation) as client:
        target = path("subscriptions", f"{name}:seek")
        done = client.request("POST", target, body={"to": place_in(place), "dry_run": not execute})
    print_rows(invocation, done["partitions"], _SEEK_COLUMNS)
    if not execute:
        note(invocation, "nothing was changed; --execute does it")


@sub.command("test-filter")
@click.argument("expression", metavar="CEL")
@click.option("--value", help="The value of a record to try it on.")
@click.option("--key", "-k", help="Its key.")
@click.option("--header", "-H", "headers", multiple=True, metavar="NAME:VALUE", help="A header of it.")
@click.option("--at", "place", metavar="TOPIC/PARTITION@OFFSET", help="Try it on this record instead.")
@pass_invocation
def test_filter(
    invocation: Invocation,
    /,
    expression: str,
    value: str | None,
    key: str | None,
    headers: Sequence[str],
    place: str | None,
) -> int:
    """Try a filter on a record: exits with 0 if it matches, 1 if not."""
    body: Row = {"filter": expression}
    if place is None:
        body["sample"] = {"value": value, "key": key, "headers": [header(text) for text in headers]}
    else:
        where, _, offset = place.rpartition("@")
        topic, _, partition = where.rpartition("/")
        if not (topic and partition.isdecimal() and offset.isdecimal()):
            raise click.UsageError(f"{place!r} is no TOPIC/PARTITION@OFFSET")
        body |= {"topic": topic, "partition": int(partition), "offset": int(offset)}
    with _client(invocation) as client:
        answer = client.request("POST", path("filters:test"), body=body)
    print_item(invocation, answer)
    return 0 if answer["matches"] else failures.FAILURE
