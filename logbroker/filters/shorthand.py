"""Shorthands for filters: a key and headers as they are asked for on a line or in a query.

What lives here: making one expression of them. What may not: compiling it.
"""

import json
from collections.abc import Iterable

from logbroker.filters.filter import text_of


def combined(expression: str | None, key: str | None, headers: Iterable[tuple[str, str]]) -> str | None:
    """One expression for all that is wanted, None where everything is. ``headers`` are names and values."""
    parts = [] if expression is None else [expression]
    if key is not None:
        parts.append(f"key == {_literal(key)}")
    parts += [f"headers[{_literal(name)}] == {_literal(value)}" for name, value in headers]
    return " && ".join(f"({part})" for part in parts) if len(parts) > 1 else next(iter(parts), None)


def _literal(text: str) -> str:
    """The text, as a filter sees it, as a string of CEL, whose escapes are those of JSON."""
    return json.dumps(text_of(text.encode()), ensure_ascii=False)
