"""When a call that failed is carried out again, and after how long.

What lives here: the decision. What may not: waiting. Invariant: only what may help (``retriable``) and cannot do harm
(``may_repeat``) is repeated.
"""

import random
from collections.abc import Iterator
from typing import Any

from logbroker.client.calls.base import Call
from logbroker.errors import LogbrokerError

RETRIES = 4
FIRST_S = 0.1
LONGEST_S = 5.0


def delays(retries: int = RETRIES) -> Iterator[float]:
    """The seconds before each new attempt: doubled each time, and drawn at random from the upper half."""
    longest = FIRST_S
    for _ in range(retries):
        yield longest * (0.5 + random.random() / 2)
        longest = min(longest * 2, LONGEST_S)


def may_try_again(call: Call[Any], error: LogbrokerError) -> bool:
    """Whether the call may be carried out once more."""
    return error.retriable and call.may_repeat
