"""One real broker process that is killed and started again on the same ports and the same data."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.bench.servers.logbroker import is_ready
from tools.bench.servers.process import HOST, free_port

_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 60.0
"""A stop waits ``drain_ms`` (10 s) for what changes something, then as long for what reads, and as long again for what was
broken off: on a busy machine the sum of it may be needed, and more says that it hangs."""


class Broker:
    """``logbroker serve`` on a directory. Its output goes to ``output``, one run after another."""

    def __init__(
        self,
        directory: Path,
        arguments: Sequence[str] = (),
        *,
        kafka: bool = False,
        module: str = "logbroker",
        data: Path | None = None,
    ) -> None:
        self.port = free_port()
        self.kafka_port = free_port() if kafka else 0
        self.output = directory / "broker.txt"
        self._command = [sys.executable, "-m", module, "serve", "--data-dir", str(data or directory / "data")]
        self._command += ["--http", f"{HOST}:{self.port}"]
        self._command += ["--kafka", f"{HOST}:{self.kafka_port}" if kafka else "off", *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start the process, without waiting for it; ``environment`` is added to this one."""
        with self.output.open("ab") as sink:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    def wait_until_ready(self) -> float:
        """Return how many seconds it took until the broker serves. Raises AssertionError when it does not."""
        begin = time.monotonic()
        while not is_ready(self.port):
            assert self._process is not None
            late = time.monotonic() - begin > _START_TIMEOUT
            if late or self._process.poll() is not None:
                raise AssertionError(f"the broker {'is not ready' if late else 'died'}:\n{self.tail()}")
            time.sleep(0.005)
        return time.monotonic() - begin

    def becomes_ready(self) -> bool:
        """Wait until it serves, or has ended by itself; whether it serves."""
        assert self._process is not None
        while self._process.poll() is None:
            if is_ready(self.port):
                return True
            time.sleep(0.02)
        return False

    @property
    def pid(self) -> int:
        """The process that was started last."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int:
        """What it ended with, which it has."""
        assert self._process is not None
        return self._process.wait(_STOP_TIMEOUT)

    def dies_within(self, seconds: float) -> bool:
        """Whether the process ends by itself in that time."""
        assert self._process is not None
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def pause(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after that time: a broker that hangs and comes back."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM, and the exit code it ends with (SIGKILL when it does not end)."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            return self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def tail(self) -> str:
        """The end of what it printed."""
        return self.output.read_text(encoding="utf-8", errors="replace")[-4000:]
