"""Filters on the command line: an expression, and the shorthands that stand for one.

What lives here: making one CEL expression of them. What may not: compiling it, which the broker does.
"""

import json
from collections.abc import Sequence

from logbroker.cli.input import header


def filter_text(expression: str | None, key: str | None, headers: Sequence[str]) -> str | None:
    """One expression for all that is wanted, None where everything is. ``headers`` are NAME:VALUE.

    Raises click.BadParameter for a header that is none.
    """
    parts = [] if expression is None else [expression]
    if key is not None:
        parts.append(f"key == {_literal(key)}")
    for text in headers:
        name, value = header(text)
        parts.append(f"headers[{_literal(name)}] == {_literal(value)}")
    return " && ".join(f"({part})" for part in parts) if len(parts) > 1 else next(iter(parts), None)


def _literal(text: str) -> str:
    """The text as a string of CEL, whose escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)
