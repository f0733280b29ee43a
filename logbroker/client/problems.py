"""What a broker refuses with, as the classes of ``logbroker.errors``: found by their stable ``code``.

What lives here: problem documents to errors. What may not: connections. Invariant: a code that this version does not know
becomes a LogbrokerError that names it, never a KeyError.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from logbroker.errors import LogbrokerError

_MEMBERS = frozenset({"type", "title", "status", "detail", "instance", "code", "retriable"})


def error_of(problem: Mapping[str, Any]) -> LogbrokerError:
    """The error that a problem document, or the ``error`` of one part of an answer, stands for. Raises KeyError."""
    code, detail = problem["code"], problem.get("detail")
    fields = {name: value for name, value in problem.items() if name not in _MEMBERS and name.isidentifier()}
    kind = _errors_by_code().get(code)
    return LogbrokerError(f"{code}: {detail}", **fields) if kind is None else kind(detail, **fields)


def refusal(status: int, body: bytes) -> LogbrokerError:
    """The error of an answer; one that is no problem document becomes an error that quotes it."""
    try:
        return error_of(msgspec.json.decode(body))
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError):
        return LogbrokerError(f"the answer was status {status}: {body[:200].decode(errors='replace')}")


def refuse_if_all_failed(outcomes: Sequence[object]) -> None:
    """Raise the first error when every outcome is one, and all of one code: then the request as a whole was refused."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, LogbrokerError)]
    if failures and len(failures) == len(outcomes) and len({failure.code for failure in failures}) == 1:
        raise failures[0]


@functools.cache
def _errors_by_code() -> dict[str, type[LogbrokerError]]:
    found: dict[str, type[LogbrokerError]] = {}
    kinds = [LogbrokerError]
    while kinds:
        kind = kinds.pop()
        if "code" in vars(kind):  # and not inherited, by a class that stands for a special case of it inside a part
            found[kind.code] = kind
        kinds.extend(kind.__subclasses__())
    return found
