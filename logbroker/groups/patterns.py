"""Subscriptions by pattern: regular expressions in RE2's syntax, as Kafka's brokers read them (KIP-848).

What lives here: the adapter of RE2. What may not: anything that knows of groups. RE2 runs in time linear in the name and
within a fixed memory, so no pattern can stall the broker; what would need more is refused when it is compiled.
Invariant: a pattern matches whole names only.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import re2

from logbroker.errors import InvalidRegularExpression

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 1 << 20
_KEPT = 256


@lru_cache(maxsize=_KEPT)
def _compiled(pattern: str) -> Any:
    try:
        return re2.compile(pattern, _OPTIONS)
    except re2.error as error:
        why = error.args[0].decode(errors="replace") if error.args and isinstance(error.args[0], bytes) else error
        raise InvalidRegularExpression(f"{pattern[:200]!r} is not a regular expression as RE2 reads it: {why}") from None


def check_pattern(pattern: str) -> None:
    """Raise InvalidRegularExpression unless RE2 can compile it."""
    _compiled(pattern)


def names_matching(pattern: str, names: Iterable[str]) -> frozenset[str]:
    """Those of ``names`` that the pattern matches as a whole. Raises InvalidRegularExpression."""
    compiled = _compiled(pattern)
    return frozenset(name for name in names if compiled.fullmatch(name) is not None)
