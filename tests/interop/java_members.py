"""Members of a consumer group by Kafka's own client, all in one Java process (``java/Members.java``), driven from here.

What lives here: starting and stopping them, and what they tell, as it comes. What may not: judgement.
"""

import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from tools.bench.servers.kafka import tool_command

_SOURCE = Path(__file__).with_name("java") / "Members.java"
_OPTIONS = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xmx512m"]
TIMEOUT_S = 60.0


class Told(NamedTuple):
    """One line: when, by whom, what happened, to what."""

    at_ms: int
    member: str
    what: str
    words: tuple[str, ...]


class JavaMembers:
    """The process. ``held`` are the partitions of each member now, as ``topic-number``."""

    def __init__(self, address: str, group: str, subscription: str, **settings: str) -> None:
        words = [f"{name.replace('_', '.')}={value}" for name, value in settings.items()]
        command = tool_command(str(_SOURCE), address, group, subscription, *words, options=_OPTIONS)
        self.told: list[Told] = []
        self.held: dict[str, set[str]] = defaultdict(set)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> "JavaMembers":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End all members, as well-behaved ones do."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(TIMEOUT_S)
        finally:
            self._process.kill()
            self._reader.join()
            assert self._process.stdout is not None
            self._process.stdout.close()

    def start(self, name: str, **settings: str) -> None:
        """A new member."""
        self._say("start", name, *(f"{key.replace('_', '.')}={value}" for key, value in settings.items()))
        self.held[name] = set()

    def stop(self, name: str) -> None:
        """Let a member leave, and wait until it has."""
        self._say("stop", name)
        self.until(lambda: any((one.member, one.what) == (name, "ended") for one in self.told), f"{name} has not ended")
        del self.held[name]

    def kill(self) -> None:
        """End all members in the middle of whatever they do."""
        self._process.kill()

    def _say(self, *words: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(words) + "\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            at_ms, member, what, *words = line.split()
            if what == "gained":
                self.held[member] |= set(words)
            elif what == "lost":
                self.held[member] -= set(words)
            self.told.append(Told(int(at_ms), member, what, tuple(words)))

    def until(self, condition: Callable[[], bool], why: str) -> None:
        """Wait for what the members are to come to."""
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            failed = [one for one in list(self.told) if one.what == "failed"]
            assert not failed, failed
            assert time.monotonic() < deadline, f"{why}: {dict(self.held)}"
            time.sleep(0.02)

    def is_split(self, partitions: int) -> bool:
        """Whether every partition has exactly one member and none has two more than another."""
        shares = [len(held) for held in list(self.held.values())]
        held = [at for held in list(self.held.values()) for at in held]
        return len(held) == len(set(held)) == partitions and max(shares) - min(shares) <= 1
