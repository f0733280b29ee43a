"""What clients did and saw: the append-only history that the crash tests record and the checker judges.

What lives here: the operations as values, and their form in a file. What may not: any judgement (``checker``), any client.
Invariants: an operation is written down twice, before it is sent and after its answer, so that a client killed in between
leaves an operation of unknown outcome; a process does one thing at a time; every value written is unique.
"""

import enum
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

Partition: TypeAlias = str
"""``topic-number``."""


class Outcome(enum.Enum):
    """What is known of an operation. FAIL is a promise that it never took and never will take effect."""

    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Send:
    """One batch to one partition; ``base_offset`` is known once it was acknowledged."""

    partition: Partition
    values: tuple[int, ...]
    base_offset: int | None = None

    def placed(self) -> Iterator[tuple[int, int]]:
        """Each value with the offset it was acknowledged at."""
        if self.base_offset is not None:
            yield from enumerate(self.values, self.base_offset)


@dataclass(frozen=True, slots=True)
class Poll:
    """Records as one poll returned them: (offset, value) by partition, in their order.

    ``rebalanced`` tells that the assignment changed inside the poll, which excuses a jump.
    """

    records: Mapping[Partition, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    group: str | None = None
    rebalanced: bool = False


@dataclass(frozen=True, slots=True)
class Assign:
    """The process chose its partitions and positions itself."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """The process left the choice of partitions to a group, which may move them between any two polls."""


@dataclass(frozen=True, slots=True)
class Commit:
    """The next offset to be processed of each partition, for a group."""

    group: str
    offsets: Mapping[Partition, int]


@dataclass(frozen=True, slots=True)
class Committed:
    """The committed offsets of a group as they were read back."""

    group: str
    offsets: Mapping[Partition, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Enqueue:
    """Messages sent to a queue."""

    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Receive:
    """Messages leased to the process for at least ``lease_ms``."""

    lease_ms: int
    values: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Settle:
    """A lease given back: ``ack``, ``nack``, ``reject`` or ``release``."""

    how: str
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a queue held when nobody worked on it any more: ready, in flight, delayed or retrying; and dead."""

    pending: tuple[int, ...] = ()
    dead: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Transact:
    """A transaction over many partitions: what was polled (offset, value) and sent in it, until its end was asked for.

    OK: it was committed; FAIL: it was aborted, or nobody ever asked to commit it.
    """

    sent: Mapping[Partition, tuple[int, ...]] = field(default_factory=dict)
    polled: Mapping[Partition, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    asked_ns: int = 0
    """When the commit was asked for; 0: never."""


Action: TypeAlias = (
    Send | Poll | Assign | Subscribe | Commit | Committed | Enqueue | Receive | Settle | Inventory | Transact
)
_KINDS = (Send, Poll, Assign, Subscribe, Commit, Committed, Enqueue, Receive, Settle, Inventory, Transact)
_ACTIONS = {kind.__name__: kind for kind in _KINDS}


@dataclass(frozen=True, slots=True)
class Operation:
    """One action of one process, from its invocation to its completion (monotonic nanoseconds of one machine)."""

    process: str
    action: Action
    outcome: Outcome
    invoked_ns: int
    completed_ns: int


class Recorder:
    """Writes one process's operations to its own file, a JSON line for each begin and each end."""

    def __init__(self, path: Path, process: str) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._process = process

    def begin(self, action: Action) -> None:
        """Note that ``action`` is about to be sent."""
        self._write({"begin": time.monotonic_ns(), "process": self._process, **_as_json(action)})

    def end(self, outcome: Outcome, action: Action) -> None:
        """Note what came of the action begun last, with what its answer told."""
        self._write({"end": time.monotonic_ns(), "outcome": outcome.value, **_as_json(action)})

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _as_json(action: Action) -> dict[str, Any]:
    fields = {name: getattr(action, name) for name in type(action).__dataclass_fields__}
    return {"action": type(action).__name__, "fields": fields}


def _from_json(line: Mapping[str, Any]) -> Action:
    fields = dict(line["fields"])
    for name in ("values", "pending", "dead"):
        if name in fields:
            fields[name] = tuple(fields[name])
    if "records" in fields:
        fields["records"] = {where: tuple((at, value) for at, value in seen) for where, seen in fields["records"].items()}
    if "sent" in fields:
        fields["sent"] = {where: tuple(values) for where, values in fields["sent"].items()}
        fields["polled"] = {where: tuple((at, value) for at, value in seen) for where, seen in fields["polled"].items()}
    return _ACTIONS[line["action"]](**fields)


def read_history(paths: Iterable[Path]) -> list[Operation]:
    """All operations of some recorders, by invocation. An operation without an end is of unknown outcome.

    A process that was killed may have left half a line at the end of its file.
    """
    found: list[Operation] = []
    for path in paths:
        for text in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if not text.endswith("\n"):
                continue
            line = json.loads(text)
            if "begin" in line:
                begun = line["begin"]
                found.append(Operation(line["process"], _from_json(line), Outcome.UNKNOWN, begun, _NEVER))
            else:
                outcome, action = Outcome(line["outcome"]), _from_json(line)
                found[-1] = replace(found[-1], action=action, outcome=outcome, completed_ns=line["end"])
    return sorted(found, key=lambda operation: operation.invoked_ns)


_NEVER = 1 << 63
