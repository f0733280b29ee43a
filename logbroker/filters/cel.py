"""The CEL library, behind the few calls that filters need of it; nothing else imports it.

What lives here: the environment (names and types of the variables), compiling, evaluating, and the library's error texts
read back into a place in the expression. What may not: what the variables of a record are. The library is loaded at the
first filter, because most brokers and every command line run without one.

Bounds that the library keeps by itself: an expression nests at most 32 deep, and all loops of one evaluation together go
round at most 10,000 times (an evaluation that would go on is an error).
"""

import enum
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from logbroker.errors import FilterInvalid

VARIABLES: Mapping[str, str] = {
    "key": "DYN",
    "headers": "DYN",
    "value": "DYN",
    "timestamp": "INT",
    "offset": "INT",
    "partition": "INT",
    "topic": "STRING",
    "error": "DYN",
    "failures": "INT",
    "reason": "STRING",
}

_PLACE = re.compile(r"ERROR: [^:\n]*:(-?\d+):(-?\d+): ([^\n]*)")
_STATUS = re.compile(r"^[A-Z_]+: |\s*\[[A-Z_]+\]$")


class Verdict(enum.Enum):
    """What a filter says of a record."""

    MATCH = "match"
    NO_MATCH = "no_match"
    ERROR = "error"
    """The expression failed on this record, for instance for want of a field; the record does not match."""


class Program(Protocol):
    """An expression, ready to run. Variables that are left out fail the expression where it needs them."""

    def __call__(self, variables: Mapping[str, Any]) -> Verdict:
        """What it says."""
        ...


@functools.cache
def _environment() -> Any:
    from cel_expr_python import cel

    return cel.NewEnv(variables={name: getattr(cel.Type, kind) for name, kind in VARIABLES.items()})


def compile_program(text: str) -> "CelProgram":
    """A program for an expression that gives a boolean. Raises FilterInvalid with ``line`` and ``column``, from 1."""
    from cel_expr_python import cel

    try:
        expression = _environment().compile(text)
    except RuntimeError as error:  # all that the library raises on an expression
        raise _invalid(str(error)) from None
    if expression.return_type() != cel.Type.BOOL:
        kind = str(expression.return_type()).lower()
        hint = "compare it with something, as in value.paid == true" if kind == "dyn" else "it must be true or false"
        raise FilterInvalid(f"the filter gives {_ARTICLES.get(kind, 'a ' + kind)}: {hint}", line=1, column=1)
    return CelProgram(expression.eval, cel.Type.BOOL)


class CelProgram:
    """A compiled expression."""

    __slots__ = ("_boolean", "_evaluate")

    def __init__(self, evaluate: Callable[..., Any], boolean: Any) -> None:
        self._evaluate = evaluate
        self._boolean = boolean

    def __call__(self, variables: Mapping[str, Any]) -> Verdict:
        """What it says."""
        try:
            outcome = self._evaluate(data=variables)
            if outcome.type() != self._boolean:
                return Verdict.ERROR
            return Verdict.MATCH if outcome.value() else Verdict.NO_MATCH
        except _FAILURES:
            return Verdict.ERROR

    def failure(self, variables: Mapping[str, Any]) -> str | None:
        """Why it fails, in the library's words; None where it does not."""
        try:
            outcome = self._evaluate(data=variables)
            return None if outcome.type() == self._boolean else _STATUS.sub("", str(outcome.value()))
        except _FAILURES as error:
            return _STATUS.sub("", str(error))


_FAILURES = (RuntimeError, ValueError, TypeError, OverflowError)
"""What the library raises on a payload that it cannot take in, and on one that it would go round too often for."""
_ARTICLES = {"dyn": "whatever stands in the record", "int": "a number", "double": "a number", "uint": "a number"}


def _invalid(message: str) -> FilterInvalid:
    found = _PLACE.search(message)
    if found is None:
        return FilterInvalid(f"the filter is not accepted: {_STATUS.sub('', message)}")
    line, column, what = int(found[1]), int(found[2]), found[3].strip()
    if column < 1:
        return FilterInvalid(f"the filter is not accepted: {what}")
    place = f"column {column}" if line == 1 else f"line {line}, column {column}"
    return FilterInvalid(f"the filter is not accepted at {place}: {what}", line=line, column=column)
