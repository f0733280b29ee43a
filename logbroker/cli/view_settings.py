"""Settings of queues and subscriptions on the command line: ``-c retry.policy=fixed``, and places in a topic.

What lives here: texts to bodies and back. What may not: asking the broker; which settings there are, which it knows.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import click

from logbroker.cli.positions import time_ms

Row = dict[str, Any]

setting_option = click.option(
    "--config", "-c", "settings", multiple=True, metavar="NAME=VALUE", help="A setting, as retry.policy=fixed."
)


def nested(pairs: Mapping[str, object]) -> Row:
    """``{"retry.policy": x}`` as ``{"retry": {"policy": x}}``."""
    body: Row = {}
    for name, value in pairs.items():
        *outer, last = name.strip().split(".")
        inner = body
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return body


def flat(config: Mapping[str, Any]) -> Row:
    """The same the other way."""
    pairs: Row = {}
    for name, value in config.items():
        pairs |= {f"{name}.{inner}": one for inner, one in value.items()} if isinstance(value, dict) else {name: value}
    return pairs


def parsed(settings: Sequence[str]) -> dict[str, object]:
    """NAME=VALUE pairs; a value that is JSON is taken as such, ``a,b`` as a list of numbers. Raises click.UsageError."""
    pairs: dict[str, object] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"{text!r} is no NAME=VALUE")
        pairs[name] = _value(f"[{value}]" if re.fullmatch(r"\d+(,\d+)+", value) else value)
    return pairs


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def place_in(text: str) -> Row:
    """A place in a topic as the HTTP API takes it: earliest, latest, an offset, a time, or ``snapshot:NAME``."""
    if text in ("earliest", "latest"):
        return {"at": text}
    if text.startswith("snapshot:"):
        return {"snapshot": text.removeprefix("snapshot:")}
    return {"offset": int(text)} if text.isdecimal() else {"timestamp_ms": time_ms(text)}
