"""``logbroker txn``: list, describe and abort transactions."""

from urllib.parse import quote

import click

from logbroker.cli.framework import Group, Invocation, pass_invocation
from logbroker.cli.http_client import HttpClient
from logbroker.cli.output import duration, print_item, print_rows

_STATES = ("Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort")


@click.group("txn", cls=Group)
def transaction() -> None:
    """List, describe and abort transactions of Kafka producers."""


def _client(invocation: Invocation) -> HttpClient:
    return HttpClient(invocation.url, invocation.timeout_s)


def _path(name: str, rest: str = "") -> str:
    return f"/v1/transactions/{quote(name, safe='')}{rest}"


@transaction.command("ls")
@click.argument("prefix", default="")
@click.option("--state", type=click.Choice(_STATES, case_sensitive=False), help="Only transactional ids in this state.")
@pass_invocation
def list_transactions(invocation: Invocation, prefix: str, state: str | None) -> None:
    """List transactional ids, those whose name starts with PREFIX. AGE is how long their open transaction has been open."""
    with _client(invocation) as client:
        rows = list(client.pages("/v1/transactions", {"prefix": prefix, "state": state}))
    if invocation.output == "table":
        rows = [{**row, "age": duration(row["age_ms"]), "partitions": len(row["partitions"])} for row in rows]
    print_rows(invocation, rows, ("transactional_id", "state", "producer_id", "epoch", "age", "partitions"))


@transaction.command("describe")
@click.argument("name")
@pass_invocation
def describe(invocation: Invocation, name: str) -> None:
    """Show the transactional id NAME and its open transaction."""
    with _client(invocation) as client:
        print_item(invocation, client.get(_path(name)))


@transaction.command("abort")
@click.argument("name")
@pass_invocation
def abort(invocation: Invocation, name: str) -> None:
    """Abort the open transaction of NAME and fence its producer, so that committed readers can go on."""
    with _client(invocation) as client:
        print_item(invocation, client.request("POST", _path(name, ":abort")))
