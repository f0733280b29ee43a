"""The machines of a journal, as it keeps them in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from logbroker.machine import Machine

M = TypeVar("M", bound=Machine[Any, Any])


@dataclass(frozen=True, slots=True)
class MachineKind(Generic[M]):
    """What a journal has to know of its machines."""

    new: Callable[[str], M]
    """Makes the empty machine of that name."""
    event_type: Any
    """The union of its hard events."""
    is_vacant: Callable[[M], bool] = lambda machine: False
    """Whether a machine without deadline can be dropped, because an empty one would be just like it."""
    applied: Callable[[str, M], None] = lambda name, machine: None
    """Told whenever a decision was applied to the machine of a name. It may not be durable yet."""


@dataclass(slots=True)
class Entry(Generic[M]):
    """A machine in memory."""

    machine: M
    has_snapshot: bool
    """Whether the log holds a snapshot for its events to stand on."""
    end: int
    """Below this offset everything it has written must be durable before it says anything."""
