"""``logbroker group``: list, describe, move and delete consumer groups, and see how far they are behind."""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from logbroker.cli import failures
from logbroker.cli.framework import Group, Invocation, pass_invocation
from logbroker.cli.http_client import HttpClient
from logbroker.cli.output import duration, note, print_item, print_rows, timestamp
from logbroker.cli.positions import time_ms

WATCH_S = 2.0
_STATES = ("Empty", "PreparingRebalance", "CompletingRebalance", "Assigning", "Reconciling", "Stable")
_LAG_COLUMNS = ("group", "topic", "partition", "committed", "end", "lag", "behind", "status")
_OFFSET_COLUMNS = ("topic", "partition", "committed", "log_start_offset", "end", "lag", "behind", "status", "member_id")

Row = dict[str, Any]


@click.group(cls=Group)
def group() -> None:
    """List, describe, move and delete consumer groups."""


def _client(invocation: Invocation) -> HttpClient:
    return HttpClient(invocation.url, invocation.timeout_s)


def _path(name: str, rest: str = "") -> str:
    return f"/v1/groups/{quote(name, safe='')}{rest}"


# -- looking ---------------------------------------------------------------------------------------------------------


@group.command("ls")
@click.argument("prefix", default="")
@click.option("--state", type=click.Choice(_STATES, case_sensitive=False), help="Only groups in this state.")
@pass_invocation
def list_groups(invocation: Invocation, prefix: str, state: str | None) -> None:
    """List consumer groups, those whose name starts with PREFIX."""
    with _client(invocation) as client:
        rows = list(client.pages("/v1/groups", {"prefix": prefix, "state": state}))
    print_rows(invocation, rows, ("group", "type", "state", "protocol_type", "members"))


@group.command("describe")
@click.argument("name")
@click.option("--members", "what", flag_value="members", help="Its members and what they read.")
@click.option("--offsets", "what", flag_value="partitions", help="Where it is in each partition.")
@pass_invocation
def describe(invocation: Invocation, name: str, what: str | None) -> None:
    """Show the consumer group NAME."""
    with _client(invocation) as client:
        info = client.get(_path(name))
    if what == "members":
        _print_members(invocation, info)
    elif what == "partitions":
        _print_lags(invocation, info["partitions"], _OFFSET_COLUMNS)
    elif invocation.output != "table":
        print_item(invocation, info)
    else:
        members, partitions = info.pop("members"), info.pop("partitions")
        print_item(invocation, info)
        print()
        _print_members(invocation, {**info, "members": members})
        print()
        _print_lags(invocation, partitions, _OFFSET_COLUMNS)


def _print_members(invocation: Invocation, info: Row) -> None:
    """Members of a consumer group also have epochs, and a target that they may not have reached."""
    members: Sequence[Row] = info["members"]
    if invocation.output == "table":
        members = [{**one, **{name: _assignment(one[name]) for name in ("assignment", "target")}} for one in members]
    more = ("protocol", "epoch", "target") if info["type"] == "consumer" else ()
    print_rows(invocation, members, ("member_id", "client_id", "client_host", "assignment", *more))


def _print_lags(invocation: Invocation, rows: Sequence[Row], columns: Sequence[str]) -> None:
    if invocation.output == "table":
        rows = [{**row, "behind": duration(row["lag_ms"])} for row in rows]
    print_rows(invocation, rows, columns)


def _assignment(assignment: Iterable[Row] | None) -> str:
    """``orders/0,1 payments/3``."""
    topics: dict[str, list[str]] = {}
    for one in assignment or ():
        topics.setdefault(one["topic"], []).append(str(one["partition"]))
    return " ".join(f"{topic}/{','.join(numbers)}" for topic, numbers in topics.items()) or "-"


# -- lag -------------------------------------------------------------------------------------------------------------


@group.command("lag")
@click.argument("name", required=False)
@click.option("--watch", "-w", is_flag=True, help="Show it anew every 2 seconds.")
@click.option("--fail-over", type=click.IntRange(0), metavar="N", help="Exit with 1 when a partition lags more than N.")
@pass_invocation
def show_lag(invocation: Invocation, name: str | None, watch: bool, fail_over: int | None) -> int:
    """Show how far the group NAME, or every group, is behind in each partition.

    LAG counts the records from the first unread one on, BEHIND is the age of that record. With --data-dir this is read
    from the files of a broker that does not run.
    """
    while True:
        rows = _offline(invocation.data_dir, name) if invocation.data_dir is not None else _online(invocation, name)
        if watch and invocation.output == "table":
            click.clear()
        _print_lags(invocation, rows, _LAG_COLUMNS)
        if not watch:
            break
        time.sleep(WATCH_S)
    over = fail_over is not None and any((row["lag"] or 0) > fail_over for row in rows)
    return failures.FAILURE if over else 0


def _online(invocation: Invocation, name: str | None) -> list[Row]:
    with _client(invocation) as client:
        names = [name] if name is not None else [item["group"] for item in client.pages("/v1/groups")]
        return [{"group": one, **row} for one in names for row in client.get(_path(one, "/lag"))["partitions"]]


def _offline(data_dir: str, name: str | None) -> list[Row]:
    from logbroker.cli.storage.lag import lag_rows

    return list(lag_rows(Path(data_dir), name))


# -- moving ----------------------------------------------------------------------------------------------------------

_execute_option = click.option("--execute", is_flag=True, help="Do it; otherwise the plan is shown.")
_force_option = click.option("--force", is_flag=True, help="Although the group has members, who read on where they are.")


@group.command("reset")
@click.argument("name")
@click.option("--to", "place", metavar="PLACE", help="See below.")
@click.option("--shift", type=int, metavar="N", help="N offsets further, or back where negative.")
@click.option("--like", "other", metavar="GROUP", help="Where another group is.")
@click.option("--topic", "-t", "topics", multiple=True, help="Only this topic; needed where nothing is committed yet.")
@_force_option
@_execute_option
@pass_invocation
def reset(
    invocation: Invocation,
    /,
    name: str,
    place: str | None,
    shift: int | None,
    other: str | None,
    topics: Sequence[str],
    force: bool,
    execute: bool,
) -> int:
    """Move the consumer group NAME. Shows the plan; --execute carries it out.

    A PLACE is earliest, latest, current, an offset (1234), a time (2026-11-24T10:00, UTC unless it says otherwise), or a
    time ago (10m).
    """
    targets: list[Row] = [] if place is None else [_place(place)]
    targets += [] if shift is None else [{"shift": shift}]
    targets += [] if other is None else [{"group": other}]
    if len(targets) != 1:
        raise click.UsageError("give one of --to, --shift and --like")
    with _client(invocation) as client:
        return _move(invocation, client, name, [{"to": targets[0], "topics": list(topics) or None}], force, execute)


@group.command("seek")
@click.argument("name")
@click.argument("positions", nargs=-1, required=True, metavar="TOPIC/PARTITION=OFFSET...")
@_force_option
@_execute_option
@pass_invocation
def seek(invocation: Invocation, name: str, positions: Sequence[str], force: bool, execute: bool) -> int:
    """Move the consumer group NAME to an offset in each partition named. Shows the plan; --execute carries it out."""
    offsets: dict[str, dict[str, int]] = {}
    for text in positions:
        found = re.fullmatch(r"([^/]+)/(\d+)=(\d+)", text)
        if found is None:
            raise click.UsageError(f"{text!r} is no TOPIC/PARTITION=OFFSET")
        offsets.setdefault(found[1], {})[found[2]] = int(found[3])
    bodies = [{"to": {"offsets": wanted}, "topics": [topic]} for topic, wanted in offsets.items()]
    with _client(invocation) as client:
        return _move(invocation, client, name, bodies, force, execute)


def _place(text: str) -> Row:
    if text in ("earliest", "latest", "current"):
        return {"at": text}
    return {"offset": int(text)} if re.fullmatch(r"\d+", text) else {"timestamp_ms": time_ms(text)}


def _move(invocation: Invocation, client: HttpClient, name: str, bodies: Sequence[Row], force: bool, execute: bool) -> int:
    """Plan everything, and only when all of it can be planned, do it. The exit code."""
    planned = [client.request("POST", _path(name, ":reset"), body=body) for body in bodies]
    if execute:
        options: Mapping[str, object] = {"dry_run": False, "force": force}
        planned = [client.request("POST", _path(name, ":reset"), body={**body, **options}) for body in bodies]
    rows = [row for plan in planned for row in plan["partitions"]]
    print_rows(invocation, rows, ("topic", "partition", "old", "new", "clamped"))
    if not execute:
        members = planned[0]["members"]
        busy = f"the group has {members} members: stop them, or add --force; " if members and not force else ""
        note(invocation, f"nothing was changed: {busy}--execute carries it out")
    return failures.PARTIAL if any("error" in row for row in rows) else 0


@group.command("delete")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@pass_invocation
def delete(invocation: Invocation, names: Sequence[str]) -> None:
    """Delete consumer groups and what they have committed."""
    with _client(invocation) as client:
        plan = ["This deletes what was committed:"]
        for name in names:
            offsets = client.get(_path(name))["partitions"]
            newest = max((row["committed_ms"] or -1 for row in offsets), default=-1)
            plan.append(f"  group {name!r}: {len(offsets)} partitions, last commit {timestamp(newest)}")
        invocation.confirm("\n".join(plan))
        for name in names:
            client.request("DELETE", _path(name))
            note(invocation, f"deleted group {name!r}")
