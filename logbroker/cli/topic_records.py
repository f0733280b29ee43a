"""``logbroker topic search`` and ``topic replay``: the records of a topic as a whole.

What lives here: their options, the end of a search, following a replay. What may not: topics themselves (``topics``).
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import click

from logbroker.cli.consume import format_option, print_records
from logbroker.cli.framework import Command, Invocation, pass_invocation
from logbroker.cli.http_client import HttpClient, path
from logbroker.cli.operations import follow
from logbroker.cli.output import note, progress
from logbroker.cli.positions import time_ms
from logbroker.cli.record_filters import record_filter_options
from logbroker.cli.view_settings import place_in
from logbroker.client.problems import error_of

Row = dict[str, Any]


# -- search ------------------------------------------------------------------------------------------------------------


@click.command("search", cls=Command)
@click.argument("topic")
@record_filter_options
@click.option("--from", "start", metavar="POSITION", help="Where to start: earliest (the default), an offset, a time, 10m.")
@click.option("--to", "stop", metavar="POSITION", help="Where to stop, exclusive; by default the end as it is now.")
@click.option("--partition", "-p", "partitions", type=click.IntRange(0), multiple=True, help="Only this partition.")
@click.option("--back", is_flag=True, help="From the end towards the start: the latest first.")
@click.option("--count", "-n", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many.")
@click.option("--budget-mb", type=click.IntRange(1), metavar="N", help="Look at no more than about N megabytes.")
@click.option("--cursor", metavar="CURSOR", help="Go on where a search has stopped; with the same filter and direction.")
@format_option
@pass_invocation
def search(
    invocation: Invocation,
    /,
    topic: str,
    wanted: str | None,
    start: str | None,
    stop: str | None,
    partitions: Sequence[int],
    back: bool,
    count: int,
    budget_mb: int | None,
    cursor: str | None,
    template: str | None,
) -> None:
    """Find records of TOPIC by key, header, time or an expression.

    A search stops at --count or --budget-mb and says how to go on.
    """
    query = {
        "filter": wanted,
        "from": None if start is None else _position(start),
        "to": None if stop is None else _position(stop),
        "partitions": ",".join(map(str, partitions)) or None,
        "direction": "back" if back else None,
        "limit": count,
        "budget_bytes": None if budget_mb is None else budget_mb << 20,
        "cursor": cursor,
        "encoding": "b64",
    }
    with HttpClient(invocation.url, invocation.timeout_s) as client:
        print_records(invocation, _found(invocation, client, topic, query), template)


def _position(text: str) -> str:
    """A position as a query has it. Raises InvalidOffset."""
    return text if re.fullmatch(r"earliest|latest|\d+", text) else f"ts:{time_ms(text)}"


def _found(invocation: Invocation, client: HttpClient, topic: str, query: Row) -> Iterator[list[Row]]:
    """What a search finds, as it comes; at the end a note says how far it went."""
    scanned = 0
    with progress(invocation, "looked at", None) as bar:
        for line in client.lines(path("topics", topic, "search"), query):
            if "error" in line:
                raise error_of(line["error"])
            told = line.get("progress") or line.get("end")
            if told is None:
                yield [{"topic": topic, **line}]
                continue
            bar.advance(told["scanned"] - scanned)
            scanned = told["scanned"]
            if "end" in line:
                _note_end(invocation, told)


def _note_end(invocation: Invocation, end: Row) -> None:
    text = f"found {end['matched']} of {end['scanned']} records looked at"
    if not end["complete"]:
        text += f"; {end['offsets_left']} offsets are left, go on with --cursor {end['cursor']}"
    note(invocation, text)


# -- replay ------------------------------------------------------------------------------------------------------------


@click.command("replay", cls=Command)
@click.argument("topic")
@record_filter_options
@click.option("--from", "start", metavar="POSITION", default="earliest", show_default=True, help="Where to start.")
@click.option(
    "--to", "stop", metavar="POSITION", default="latest", help="Where to stop, exclusive; by default the end now."
)
@click.option("--into-queue", metavar="QUEUE", help="Send the copies to this queue.")
@click.option("--into-topic", metavar="TOPIC", help="Write the copies to this topic.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), metavar="N", help="At most N records a second.")
@click.option("--go-on", metavar="OPERATION", help="Go on with a replay that was interrupted.")
@pass_invocation
def replay(
    invocation: Invocation,
    /,
    topic: str,
    wanted: str | None,
    start: str,
    stop: str,
    into_queue: str | None,
    into_topic: str | None,
    rate: float | None,
    go_on: str | None,
) -> int:
    """Write a part of TOPIC again, into a queue or another topic, without disturbing those who read it.

    Ctrl-C stops it, and --go-on goes on: each record is copied once.
    """
    with HttpClient(invocation.url, invocation.timeout_s) as client:
        if go_on is not None:
            return follow(invocation, client, client.request("POST", path("operations", f"{go_on}:resume")))
        if (into_queue is None) == (into_topic is None):
            raise click.UsageError("give one of --into-queue and --into-topic")
        into = {"queue": into_queue} if into_topic is None else {"topic": into_topic}
        body: Row = {"from": place_in(start), "to": place_in(stop), "into": into, "filter": wanted, "rate": rate}
        given = {name: value for name, value in body.items() if value is not None}
        begun = client.request("POST", path("topics", f"{topic}:replay"), body=given)
        return follow(invocation, client, begun["operation"])
