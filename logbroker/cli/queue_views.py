"""Messages as rows of tables, and the options that choose among them.

What lives here: what ``queue`` and ``dlq`` have in common. What may not: asking the broker.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import click

from logbroker.cli.input import header
from logbroker.cli.output import timestamp
from logbroker.cli.payloads import one_line

STATES = ("ready", "in_flight", "delayed", "retrying", "dead")
PEEK_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "ready": ("id", "sent", "priority", "failures", "key", "value"),
    "in_flight": ("id", "consumer", "until", "deliveries", "key", "value"),
    "delayed": ("id", "due", "key", "value"),
    "retrying": ("id", "due", "failures", "error", "key", "value"),
    "dead": ("id", "sent", "reason", "failures", "error", "key", "value"),
}
_WIDTH = 60
"""Of texts in a table; '-o json' shows them whole."""

Command = TypeVar("Command", bound=Callable[..., Any])


class LetterFilter(NamedTuple):
    """Which messages are meant: those that match every part that is not None."""

    key: str | None
    header: list[str] | None
    reason: str | None
    error: str | None
    expression: str | None

    def query(self) -> dict[str, str]:
        """The filter of a peek."""
        header = None if self.header is None else "=".join(self.header)
        parts = {"key": self.key, "header": header, "reason": self.reason, "error": self.error, "filter": self.expression}
        return {name: value for name, value in parts.items() if value is not None}

    def body(self) -> object:
        """The filter of a redrive or a discard. Raises click.UsageError."""
        parts = {"key": self.key, "headers": self.header and dict([self.header]), "reason": self.reason}
        given = {name: value for name, value in {**parts, "error": self.error}.items() if value is not None}
        if self.expression is not None and given:
            raise click.UsageError("say it all in --filter, or leave it out")
        return self.expression if self.expression is not None else given


def filter_options(command: Command) -> Command:
    """Adds the options of a filter; the command gets it as ``chosen``."""

    @functools.wraps(command)
    def filtered(*arguments: Any, **options: Any) -> Any:
        key, header_text, reason, error, expression = map(
            options.pop, ("key", "header_text", "reason", "error", "expression")
        )
        wanted = None if header_text is None else header(header_text)
        return command(*arguments, chosen=LetterFilter(key, wanted, reason, error, expression), **options)

    for option in (
        click.option("--filter", "expression", metavar="CEL", help="Only those that match, as 'failures > 3'."),
        click.option("--error", metavar="TEXT", help="Only those whose last error contains TEXT."),
        click.option("--reason", metavar="REASON", help="Only those that were moved for it, as max_attempts or rejected."),
        click.option("--header", "-H", "header_text", metavar="NAME:VALUE", help="Only those with this header."),
        click.option("--key", "-k", metavar="KEY", help="Only those with this key."),
    ):
        filtered = option(filtered)
    return filtered  # type: ignore[return-value]  # wraps a command in one that click calls alike


def message_row(message: Mapping[str, Any]) -> dict[str, object]:
    """A message that was read in base64 as a row of a table: one line, times for people, long texts cut."""
    return {
        **message,
        "sent": timestamp(message.get("timestamp_ms")),
        "due": timestamp(message.get("due_ms")),
        "until": timestamp(message.get("receipt_expires_ms")),
        "error": shortened(message.get("last_error")),
        "key": _cut(one_line(message, "key")),
        "value": _cut(one_line(message, "value")),
    }


def shortened(text: str | None) -> str | None:
    """The first line of an error, cut."""
    return None if text is None else _cut(text.strip().partition("\n")[0])


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."
