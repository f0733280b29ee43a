"""Starting, watching and ending one server process with its children.

What lives here: what holds for every server. What may not: anything one server needs and another does not.
Invariant: a started process is gone when its context ends, however it ends; its output stays in a file for the message.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HOST = "127.0.0.1"
_START_TIMEOUT = 90.0
_STOP_TIMEOUT = 30.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")

ServerMaker = Callable[[Path], contextlib.AbstractContextManager["Server"]]
"""Starts a server with its files below a directory."""


class Missing(Exception):
    """A program is not on this machine; the message says how to get it."""


@dataclass
class Server:
    """A running server. ``port`` is its main door on the loopback address."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    output: Path
    started_at: float
    extra: Mapping[str, int] = field(default_factory=dict)
    """Further ports by name."""

    @property
    def address(self) -> str:
        """``host:port`` of the main door."""
        return f"{HOST}:{self.port}"

    def cpu_seconds(self) -> float:
        """Processor time used so far by the process and its children, user and system."""
        return sum(_cpu_ticks(pid) for pid in family(self.process.pid)) / _TICKS_PER_SECOND

    def resident_bytes(self) -> int:
        """Memory now resident, of the process and its children."""
        return sum(_resident_pages(pid) for pid in family(self.process.pid)) * _PAGE

    def pin(self, cores: set[int]) -> None:
        """Let the process, its children and all their threads run on ``cores`` only."""
        for pid in family(self.process.pid):
            for task in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(int(task.name), cores)


def free_port() -> int:
    """A port nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def family(pid: int) -> list[int]:
    """A process and all its descendants that are alive."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))):
            children.setdefault(int(stat[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command name (state, ppid, ...), or nothing when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return []


def _cpu_ticks(pid: int) -> int:
    stat = _stat(pid)
    return int(stat[11]) + int(stat[12]) if stat else 0


def _resident_pages(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    except OSError:
        return 0


def accepts(port: int) -> bool:
    """Whether something accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


@contextlib.contextmanager
def running(
    name: str,
    command: Sequence[str],
    port: int,
    directory: Path,
    *,
    ready: Callable[[int], bool] = accepts,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Start ``command``, wait until ``ready(port)``, and end it (SIGTERM, at last SIGKILL) with the context.

    Raises RuntimeError with the end of its output when it dies or is not ready in time.
    """
    output = directory / "output.txt"
    with output.open("wb") as sink:
        started_at = time.monotonic()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    server = Server(name, process, port, output, started_at)
    try:
        _wait_until_ready(server, ready)
        yield server
    finally:
        stop(process)


def _wait_until_ready(server: Server, ready: Callable[[int], bool]) -> None:
    while not ready(server.port):
        died = server.process.poll() is not None
        if died or time.monotonic() - server.started_at > _START_TIMEOUT:
            tail = server.output.read_text(encoding="utf-8", errors="replace")[-3000:]
            raise RuntimeError(f"{server.name} {'died' if died else 'is not ready'}; the end of its output:\n{tail}")
        time.sleep(0.005)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that ``running`` started, and its process group."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
