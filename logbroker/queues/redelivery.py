"""When a failed message comes back, and when it does not any more.

What lives here: the retry policies and the verdict on a failure. What may not: clocks, randomness (jitter comes in as an
argument), what is done about the verdict.
Invariant: jitter only adds, so a message is never early.
"""

import math
from dataclasses import dataclass
from enum import StrEnum


class RetryKind(StrEnum):
    """How the delay grows with the failures of a message."""

    NONE = "none"
    FIXED = "fixed"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a message waits after its n-th failure. Times are milliseconds; ``jitter`` is a share of the delay."""

    kind: RetryKind = RetryKind.EXPONENTIAL
    initial_ms: int = 100
    factor: float = 2
    max_ms: int = 60_000
    jitter: float = 0.2
    delays_ms: tuple[int, ...] = ()

    def delay_ms(self, failures: int, u: float) -> int:
        """The delay after failure number ``failures`` (1, 2, ...); ``u`` in [0, 1) places it within the jitter."""
        return math.ceil(min(self.max_ms, self._nominal_ms(failures)) * (1 + self.jitter * u))

    def _nominal_ms(self, failures: int) -> float:
        match self.kind:
            case RetryKind.NONE:
                return 0
            case RetryKind.FIXED:
                return self.initial_ms
            case RetryKind.LINEAR:
                return self.initial_ms * failures
            case RetryKind.LIST:
                return self.delays_ms[min(failures, len(self.delays_ms)) - 1]
            case RetryKind.EXPONENTIAL:
                try:
                    return self.initial_ms * float(self.factor) ** (failures - 1)
                except OverflowError:
                    return self.max_ms


@dataclass(frozen=True, slots=True)
class Retry:
    """Verdict: try again in ``delay_ms``."""

    delay_ms: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Verdict: the attempts are used up."""


def after_failure(
    policy: RetryPolicy, max_attempts: int | None, failures: int, u: float, delay_ms: int | None = None
) -> Retry | GiveUp:
    """What follows failure number ``failures``. ``delay_ms`` is a consumer's own wish: taken as it is, and not jittered.

    ``max_attempts=None`` never gives up.
    """
    if max_attempts is not None and failures >= max_attempts:
        return GiveUp()
    return Retry(policy.delay_ms(failures, u) if delay_ms is None else delay_ms)


def last_attempt(max_attempts: int | None, failures: int) -> bool:
    """Whether the next failure of a message with ``failures`` is its last: such a message is delivered alone."""
    return max_attempts is not None and failures + 1 >= max_attempts


def spread(number: int) -> float:
    """A value in [0, 1) for the ``number``-th draw: evenly spread and repeatable (multiples of the golden ratio)."""
    return (number * 0x9E3779B97F4A7C15 & (2**64 - 1)) / 2**64
