"""Reading topics as a member of a consumer group, for ``logbroker consume --group``.

What lives here: the life of one member over HTTP, from its join to its leave. What may not: options, printing.
Invariant: what is committed was given to the caller and taken up: a batch counts once the next one is asked for.
"""

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from logbroker.cli.http_client import HttpClient
from logbroker.errors import LogbrokerError

_FOLLOW_WAIT_MS = 10_000
_END_WAIT_MS = 1_000
"""How long a group must have nothing for its end to be believed."""
_JOIN_WAIT_MS = 60_000
"""A member that is silent holds up a join for so long, until its group gives it up."""
_MAX_RECORDS = 1_000

Record = dict[str, Any]


@dataclass(slots=True)
class MemberReader:
    """Reads as a member of ``group``. ``start`` (earliest or latest) is for partitions it has committed nothing for."""

    client: HttpClient
    group: str
    topics: Sequence[str]
    start: str
    commits: bool = True
    _member: str = ""
    _taken: dict[str, Any] = field(default_factory=dict)
    """Positions and generation of the last batch that was taken up."""

    def batches(self, count: int | None, *, follow: bool) -> Generator[list[Record], None, None]:
        """Records as they come, ``count`` at most; without ``follow`` until the group has nothing more for us."""
        wanted = {"topics": list(self.topics), "client_id": "logbroker-consume", "auto_offset_reset": self.start}
        joined = self.client.request("POST", self._path("/members"), body=wanted, wait_ms=_JOIN_WAIT_MS)
        self._member = joined["member_id"]
        try:
            yield from self._poll(count, follow)
        finally:
            self._leave()

    def _poll(self, count: int | None, follow: bool) -> Generator[list[Record], None, None]:
        wait_ms = _FOLLOW_WAIT_MS if follow else _END_WAIT_MS
        left = count
        while left is None or left > 0:
            body = {
                "max_records": _MAX_RECORDS if left is None else min(left, _MAX_RECORDS),
                "wait_ms": wait_ms,
                "commit": "previous" if self.commits else "none",
                "encoding": "b64",
            }
            path = self._path(f"/members/{quote(self._member, safe='')}:poll")
            answer = self.client.request("POST", path, body=body, wait_ms=wait_ms)
            records = answer["records"]
            if records:
                yield records
                self._taken = {"offsets": answer["positions"], "generation": answer["generation"]}
                left = None if left is None else left - len(records)
            elif not (follow or answer["rebalanced"]):
                return

    def _leave(self) -> None:
        """Commit what was taken up and go. Whoever interrupts us may have cut off an answer, so on a fresh connection."""
        self.client.close()
        if self.commits and self._taken:
            with contextlib.suppress(LogbrokerError):  # the group has moved on: others read it again
                self.client.request("PUT", self._path("/offsets"), body={**self._taken, "member_id": self._member})
        self.client.request("DELETE", self._path(f"/members/{quote(self._member, safe='')}"), {"missing_ok": "true"})

    def _path(self, rest: str) -> str:
        return f"/v1/groups/{quote(self.group, safe='')}{rest}"
