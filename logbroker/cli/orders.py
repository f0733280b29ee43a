"""``logbroker demo orders``: an order pipeline of four queues, with a bank that is down for a while.

What lives here: the course of the demonstration, the live table, and the verdict. What may not: the handlers, which are the
``order_pipeline``'s.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from logbroker.cli import failures
from logbroker.cli.framework import Command, Invocation, pass_invocation
from logbroker.cli.local_broker import local_broker
from logbroker.cli.output import duration, note, print_item, print_rows

if TYPE_CHECKING:
    from rich.table import Table

    from logbroker.cli.order_pipeline import Pipeline

_WHOLE_S = 300.0
_REFRESH_S = 0.25
_COLUMNS = ("queue", "ready", "in_flight", "retrying", "dead", "oldest", "sent", "acked", "failed")
Row = dict[str, Any]


@click.command(cls=Command)
@click.option("--orders", "count", type=click.IntRange(1, 1_000_000), default=200, show_default=True, help="How many.")
@click.option("--prefix", default="demo-", show_default=True, help="What the names of the queues begin with.")
@pass_invocation
def orders(invocation: Invocation, /, count: int, prefix: str) -> int:
    """Send orders through four queues while a bank is down, look at the dead letters, and redrive them once it is up.

    Runs against the broker of --url, or, when none is given, against one of its own that leaves nothing behind.
    """
    with ExitStack() as stack:
        url = invocation.given_url or stack.enter_context(local_broker())
        return asyncio.run(_run(invocation, url, count, prefix))


async def _run(invocation: Invocation, url: str, count: int, prefix: str) -> int:
    from logbroker.cli.awaiting import until
    from logbroker.cli.order_pipeline import Pipeline
    from logbroker.client.aio.client import connect

    began = time.perf_counter()
    async with connect(url) as lb:
        pipeline = Pipeline(lb, prefix)
        await pipeline.declare()
        try:
            async with pipeline.running():
                with _live(invocation, pipeline):
                    await pipeline.place(count)
                    await until(pipeline.is_idle, _WHOLE_S)
            first = await _state(pipeline)
            letters = await lb.queue(f"{prefix}payments").dlq.list(limit=count)
            _show(invocation, first, letters)
            pipeline.bank_is_up = True
            async with pipeline.running():
                with _live(invocation, pipeline):
                    if letters:
                        await _redrive(pipeline)
                    await until(pipeline.is_idle, _WHOLE_S)
            last = await _state(pipeline)
        finally:
            await pipeline.remove()
    summary = _summary(pipeline, count, len(letters), last)
    print_item(invocation, {**summary, "seconds": round(time.perf_counter() - began, 1)})
    return _verdict(invocation, summary, count)


async def _redrive(pipeline: "Pipeline") -> None:
    from logbroker.cli.awaiting import until

    begun = await pipeline.lb.queue(f"{pipeline.prefix}payments").dlq.redrive(dry_run=False)
    assert begun.operation is not None, "it was no dry run"
    operation = begun.operation

    async def is_over() -> bool:
        return (await pipeline.lb.operations.get(operation.id)).state != "running"

    await until(is_over, _WHOLE_S)


# -- what is told ------------------------------------------------------------------------------------------------------


async def _state(pipeline: "Pipeline") -> list[Row]:
    from logbroker.cli.order_pipeline import STAGES

    rows: list[Row] = []
    for stage in STAGES:
        info = await pipeline.lb.queue(pipeline.name(stage)).stats()
        counts, totals = info.counts, info.totals
        failed = totals["nacked"] + totals["rejected"] + totals["lease_expired"]
        rows.append(
            {
                "queue": stage.name,
                "ready": counts.ready,
                "in_flight": counts.in_flight,
                "retrying": counts.retrying,
                "dead": counts.dead,
                "oldest": duration(info.oldest_age_ms),
                "sent": totals["sent"],
                "acked": totals["acked"],
                "failed": failed,
            }
        )
    return rows


def _show(invocation: Invocation, rows: list[Row], letters: list[Any]) -> None:
    if invocation.output != "table":
        return
    print_rows(invocation, rows, _COLUMNS)
    errors = Counter((letter.last_error or "").partition("\n")[0] for letter in letters)
    print("\ndead letters of payments, by error:")
    print_rows(invocation, [{"count": number, "error": text} for text, number in errors.most_common()], ("count", "error"))
    note(invocation, "the bank is up again: its dead letters are sent back")


@contextmanager
def _live(invocation: Invocation, pipeline: "Pipeline") -> Iterator[None]:
    """The queues in a table that redraws itself, on a terminal; nothing elsewhere."""
    if invocation.quiet or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, no_color=not invocation.color)
    with Live(_drawn([]), console=console, transient=True, auto_refresh=False) as live:

        async def redraw() -> None:
            while True:
                live.update(_drawn(await _state(pipeline)), refresh=True)
                await asyncio.sleep(_REFRESH_S)

        drawing = asyncio.ensure_future(redraw())
        try:
            yield
        finally:
            drawing.cancel()


def _drawn(rows: list[Row]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in _COLUMNS:
        table.add_column(column.replace("_", " "), justify="left" if column == "queue" else "right")
    for row in rows:
        table.add_row(*(str(row[column]) for column in _COLUMNS))
    return table


# -- the verdict -------------------------------------------------------------------------------------------------------


def _summary(pipeline: "Pipeline", count: int, died: int, last: list[Row]) -> Row:
    delivered = pipeline.delivered
    return {
        "orders": count,
        "delivered": len(delivered),
        "delivered_twice": sum(times > 1 for times in delivered.values()),
        "dead_while_the_bank_was_down": died,
        "dead_at_the_end": sum(row["dead"] for row in last),
        "handler_calls": dict(pipeline.calls),
    }


def _verdict(invocation: Invocation, summary: Row, count: int) -> int:
    adds_up = summary["delivered"] + summary["dead_at_the_end"] == count and summary["delivered_twice"] == 0
    if adds_up and summary["dead_while_the_bank_was_down"] == count // 5:
        return 0
    note(invocation, "the numbers do not add up")
    return failures.FAILURE
