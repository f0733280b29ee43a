"""The options that choose among records: --filter, --key, --header.

What lives here: what ``consume``, ``topic search`` and ``topic replay`` have in common. What may not: asking the broker.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from logbroker.cli.input import header
from logbroker.filters.shorthand import combined

Command = TypeVar("Command", bound=Callable[..., Any])


def record_filter_options(command: Command) -> Command:
    """Adds the options; the command gets one expression for all of them, or None, as ``wanted``."""

    @functools.wraps(command)
    def filtered(*arguments: Any, **options: Any) -> Any:
        expression, key, headers = map(options.pop, ("expression", "key", "headers"))
        wanted = combined(expression, key, [(name, value) for name, value in map(header, headers)])
        return command(*arguments, wanted=wanted, **options)

    for option in (
        click.option("--header", "-H", "headers", multiple=True, metavar="NAME:VALUE", help="Only with this header."),
        click.option("--key", "-k", metavar="KEY", help="Only with this key."),
        click.option("--filter", "expression", metavar="CEL", help="Only what matches, as 'headers.region == \"eu\"'."),
    ):
        filtered = option(filtered)
    return filtered  # type: ignore[return-value]  # wraps a command in one that click calls alike
