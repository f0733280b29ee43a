"""Verdicts on many records without holding the loop: in slices, and in a thread where one record may take long.

What lives here: the slices. What may not: what a verdict leads to, which is its caller's.
Invariant: between two turns of the loop, records are judged for about ``SLICE_S``; heavy ones are judged beside it.
"""

import asyncio
from collections.abc import Callable, Sequence

from logbroker.filters import Verdict
from logbroker.model import StoredRecord

SLICE_S = 0.004
_STEP = 8
_IN_THREAD = 32
"""Records that a thread looks at before it can be stopped."""

Judge = Callable[[StoredRecord], Verdict]


async def judged(judge: Judge, records: Sequence[StoredRecord], *, heavy: bool) -> list[Verdict]:
    """The verdict on each record, in order; ``heavy`` ones in a thread."""
    verdicts: list[Verdict] = []
    loop = asyncio.get_running_loop()
    began = loop.time()
    step = _IN_THREAD if heavy else _STEP
    for begin in range(0, len(records), step):
        part = records[begin : begin + step]
        verdicts += await asyncio.to_thread(_verdicts, judge, part) if heavy else _verdicts(judge, part)
        if loop.time() - began >= SLICE_S:
            await asyncio.sleep(0)
            began = loop.time()
    return verdicts


def _verdicts(judge: Judge, records: Sequence[StoredRecord]) -> list[Verdict]:
    return [judge(record) for record in records]
