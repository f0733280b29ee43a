"""How results are printed: tables for people, JSON for programs; data on stdout, messages and progress on stderr.

What lives here: rendering. What may not: asking the broker, and the meaning of a column. rich is loaded only to draw on a
terminal; in a pipe a table is plain aligned columns.
Invariant: with ``-o json`` the whole of stdout is one JSON value, with ``jsonl`` one value a line.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

from logbroker.cli.framework import Invocation

Row = Mapping[str, object]


def timestamp(ms: object) -> str:
    """A time as people read it: UTC, to the millisecond; '-' for none."""
    if not isinstance(ms, int) or ms < 0:
        return "-"
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def duration(ms: object) -> str:
    """A span of time as people read it, as 4.2s or 3h05m; '-' for an unknown one."""
    if not isinstance(ms, int):
        return "-"
    if ms < 60_000:
        return f"{ms}ms" if ms < 1_000 else f"{ms / 1000:.1f}s"
    minutes = ms // 60_000
    return f"{minutes}m{ms % 60_000 // 1000:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"


def print_rows(invocation: Invocation, rows: Iterable[Row], columns: Sequence[str]) -> None:
    """A list of things. The table shows ``columns``; JSON shows every field."""
    if invocation.output == "json":
        print(json.dumps(list(rows), ensure_ascii=False, indent=2))
    elif invocation.output == "jsonl":
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))
    else:
        _print_table(invocation, [[_cell(row.get(column)) for column in columns] for row in rows], columns)


def print_item(invocation: Invocation, item: Row) -> None:
    """One thing: its fields below each other, or one JSON object."""
    if invocation.output == "table":
        width = max((len(name) for name in item), default=0)
        for name, value in item.items():
            print(f"{name:<{width}}  {_cell(value)}")
    else:
        print(json.dumps(item, ensure_ascii=False, indent=2 if invocation.output == "json" else None))


def note(invocation: Invocation, text: str) -> None:
    """A message for a person, on stderr, unless they want quiet."""
    if not invocation.quiet:
        print(text, file=sys.stderr)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _print_table(invocation: Invocation, cells: list[list[str]], columns: Sequence[str]) -> None:
    titles = [column.removesuffix("_ms").replace("_", " ").upper() for column in columns]
    if sys.stdout.isatty():
        _draw(invocation, cells, titles)
        return
    lines = [titles, *cells] if invocation.headers else cells
    widths = [max((len(line[at]) for line in lines), default=0) for at in range(len(columns))]
    for line in lines:
        print("  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip())


def _draw(invocation: Invocation, cells: list[list[str]], titles: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=invocation.headers, header_style="bold", box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    for line in cells:
        table.add_row(*(Text(text) for text in line))
    Console(no_color=not invocation.color, highlight=False).print(table)


class Progress(Protocol):
    """Counts work that is done."""

    def advance(self, amount: int) -> None:
        """``amount`` more is done."""
        ...


class _Silent:
    def advance(self, amount: int) -> None:
        pass


@contextmanager
def progress(invocation: Invocation, label: str, total: int | None) -> Iterator[Progress]:
    """A bar on stderr while the block runs; nothing when stderr is not a terminal or quiet is wanted."""
    if invocation.quiet or not sys.stderr.isatty():
        yield _Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True, no_color=not invocation.color),
        transient=True,
    )
    with bars:
        task = bars.add_task(label, total=total)

        class Bar:
            def advance(self, amount: int) -> None:
                bars.advance(task, amount)

        yield Bar()
