"""``logbroker topic``: list, create, describe, configure, grow, trim and delete topics over HTTP."""

from collections.abc import Sequence
from typing import Any

import click

from logbroker.cli import failures
from logbroker.cli.framework import Group, Invocation, pass_invocation
from logbroker.cli.http_client import HttpClient, path
from logbroker.cli.output import note, print_item, print_rows, timestamp
from logbroker.cli.topic_records import replay, search
from logbroker.config import TOPIC_SETTINGS

_setting_option = click.option(
    "--config", "-c", "settings", multiple=True, metavar="NAME=VALUE", help="A setting, as retention_ms=60000."
)


@click.group(cls=Group)
def topic() -> None:
    """List, create, describe, change and delete topics."""


def _client(invocation: Invocation) -> HttpClient:
    return HttpClient(invocation.url, invocation.timeout_s)


def _parsed(settings: Sequence[str]) -> dict[str, object]:
    """NAME=VALUE pairs, typed; Kafka's names with dots are taken too. Raises InvalidConfig, click.UsageError."""
    parsed: dict[str, object] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        name = name.strip().replace(".", "_")
        if not equals:
            raise click.UsageError(f"{text!r} is no NAME=VALUE")
        declared = TOPIC_SETTINGS.get(name)
        parsed[name] = declared.check(value) if declared is not None else value
    return parsed


@topic.command("ls")
@click.argument("prefix", default="")
@click.option("--internal", is_flag=True, help="Also the topics logbroker keeps for itself.")
@pass_invocation
def list_topics(invocation: Invocation, prefix: str, internal: bool) -> None:
    """List topics, those whose name starts with PREFIX."""
    with _client(invocation) as client:
        rows = list(client.pages(path("topics"), {"prefix": prefix, "internal": "true" if internal else None}))
    damaged = ("damaged_partitions",) if any(row["damaged_partitions"] for row in rows) else ()
    print_rows(invocation, rows, ("name", "kind", "partitions", "records", "bytes", *damaged))


@topic.command("create")
@click.argument("name")
@click.option("--partitions", "-p", type=click.IntRange(1), help="How many partitions.")
@_setting_option
@pass_invocation
def create(invocation: Invocation, name: str, partitions: int | None, settings: Sequence[str]) -> None:
    """Create the topic NAME. Creating it again with the same settings changes nothing."""
    body: dict[str, object] = {"config": _parsed(settings)}
    if partitions is not None:
        body["partitions"] = partitions
    with _client(invocation) as client:
        print_item(invocation, client.request("PUT", path("topics", name), body=body))


@topic.command("describe")
@click.argument("name")
@pass_invocation
def describe(invocation: Invocation, name: str) -> int:
    """Show the topic NAME and where each of its partitions starts and ends; exits 8 when one is damaged."""
    with _client(invocation) as client:
        info = client.get(path("topics", name))
        partitions = list(client.pages(path("topics", name, "partitions")))
    if invocation.output != "table":
        print_item(invocation, {**info, "partition_details": partitions})
    else:
        print_item(invocation, info)
        print()
        shown = [{**row, "last_timestamp": timestamp(row["max_timestamp_ms"])} for row in partitions]
        columns = ("partition", "log_start_offset", "high_watermark", "segments", "bytes", "last_timestamp")
        print_rows(invocation, shown, columns)
    damages = [row["error"] for row in partitions if "error" in row]
    for damage in damages:
        note(invocation, f"error[{damage['code']}]: {damage['detail']}")
    return failures.DAMAGE_FOUND if damages else 0


@topic.command("config")
@click.argument("name")
@pass_invocation
def show_config(invocation: Invocation, name: str) -> None:
    """Show every setting of the topic NAME and where its value comes from."""
    with _client(invocation) as client:
        config = client.get(path("topics", name, "config"))["config"]
    rows = [{"name": setting, **entry} for setting, entry in config.items()]
    print_rows(invocation, rows, ("name", "value", "source"))


@topic.command("alter")
@click.argument("name")
@_setting_option
@click.option("--unset", multiple=True, metavar="NAME", help="A setting that is to follow the default again.")
@pass_invocation
def alter(invocation: Invocation, name: str, settings: Sequence[str], unset: Sequence[str]) -> None:
    """Change settings of the topic NAME."""
    changes = {**_parsed(settings), **{key.replace(".", "_"): None for key in unset}}
    if not changes:
        raise click.UsageError("nothing to change: give --config NAME=VALUE or --unset NAME")
    with _client(invocation) as client:
        print_item(invocation, client.request("PATCH", path("topics", name), body={"config": changes}))


@topic.command("add-partitions")
@click.argument("name")
@click.argument("total", type=click.IntRange(1))
@pass_invocation
def add_partitions(invocation: Invocation, name: str, total: int) -> None:
    """Grow the topic NAME to TOTAL partitions. Records of a key may then go to another partition than before."""
    with _client(invocation) as client:
        print_item(invocation, client.request("PATCH", path("topics", name), body={"partitions": total}))


@topic.command("trim")
@click.argument("name")
@click.option("--partition", "-p", type=click.IntRange(0), help="One partition; all of them by default.")
@click.option("--before-offset", type=click.IntRange(0), help="Delete the records below this offset.")
@click.option("--before-ms", type=click.IntRange(0), help="Delete the records before the first one at or after this time.")
@pass_invocation
def trim(
    invocation: Invocation, name: str, partition: int | None, before_offset: int | None, before_ms: int | None
) -> None:
    """Delete the oldest records of the topic NAME."""
    if (before_offset is None) == (before_ms is None):
        raise click.UsageError("give one of --before-offset and --before-ms")
    bound = {"before_offset": before_offset} if before_ms is None else {"before_ms": before_ms}
    with _client(invocation) as client:
        count = client.get(path("topics", name))["partitions"]
        partitions = range(count) if partition is None else [partition]
        body: dict[str, Any] = {"partitions": [{"partition": number, **bound} for number in partitions]}
        plan = client.request("POST", path("topics", f"{name}:trim"), body={**body, "dry_run": True})
        lines = [f"  partition {row['partition']}: below offset {row['low_watermark']}" for row in plan["partitions"]]
        invocation.confirm("\n".join([f"This deletes records of topic {name!r}:", *lines]))
        done = client.request("POST", path("topics", f"{name}:trim"), body=body)
    print_rows(invocation, done["partitions"], ("partition", "low_watermark"))


@topic.command("delete")
@click.argument("name")
@pass_invocation
def delete(invocation: Invocation, name: str) -> None:
    """Delete the topic NAME and all of its records."""
    with _client(invocation) as client:
        info = client.get(path("topics", name))
        invocation.confirm(f"This deletes topic {name!r} with {info['partitions']} partitions and all of their records.")
        client.request("DELETE", path("topics", name))
    note(invocation, f"deleted topic {name!r}")


topic.add_command(search)
topic.add_command(replay)
