"""Commands as workers: threads that take work from a broker and hand it to a program of the user's.

What lives here: the threads and how they end, and one run of a program. What may not: what the work is, and what its
outcome leads to.
Invariant: the first SIGTERM or SIGINT takes no more work and lets what runs come to its end; the second ends the programs.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from logbroker.cli.framework import Invocation
from logbroker.cli.http_client import HttpClient
from logbroker.cli.output import note
from logbroker.cli.payloads import from_wire
from logbroker.errors import LogbrokerError, Unreachable

POLL_MS = 1_000
"""How long one request waits for work, and with that about how long an idle worker takes to end."""
_SHORT_REST_S, _LONG_REST_S = 0.2, 5.0
_ERROR_TAIL = 4_000
_VARIABLE_LIMIT = 32 * 1024

Turn = Callable[[HttpClient, threading.Event], bool]
"""One round of a worker: take work and do it. False says that the worker has nothing more to do."""


class Ran(NamedTuple):
    """How a program ended. ``error`` says why it failed; None for exit code 0."""

    output: bytes
    error: str | None


class Programs:
    """Runs programs, and ends those that run when asked to."""

    def __init__(self, command: Sequence[str], kill_after_s: float | None) -> None:
        self._command = command
        self._kill_after_s = kill_after_s
        self._running: set[subprocess.Popen[bytes]] = set()

    def run(self, work: Mapping[str, Any], every_s: float = 60.0, meanwhile: Callable[[], None] = lambda: None) -> Ran:
        """Hand the work's value to the program's standard input and wait; ``meanwhile`` is called every ``every_s``."""
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **variables(work)},
                start_new_session=True,  # so that a Ctrl-C at the terminal is ours to pass on
            )
        except OSError as error:
            return Ran(b"", f"{self._command[0]} cannot be run: {error.strerror}")
        self._running.add(process)
        try:
            return self._wait(process, from_wire(work, "value") or b"", every_s, meanwhile)
        finally:
            self._running.discard(process)

    def _wait(self, process: "subprocess.Popen[bytes]", data: bytes, every_s: float, meanwhile: Callable[[], None]) -> Ran:
        began = time.monotonic()
        given: bytes | None = data
        pause = every_s if self._kill_after_s is None else min(every_s, self._kill_after_s)
        while True:
            try:
                output, errors = process.communicate(given, timeout=pause)
            except subprocess.TimeoutExpired:
                given = None  # it is on its way
                if self._kill_after_s is not None and time.monotonic() - began >= self._kill_after_s:
                    _signal(process, signal.SIGKILL)
                    process.communicate()
                    return Ran(b"", f"killed: it ran for more than {self._kill_after_s:g} s")
                meanwhile()
                continue
            if process.returncode == 0:
                return Ran(output, None)
            said = errors[-_ERROR_TAIL:].decode(errors="replace").strip()
            how = f"exit code {process.returncode}" if process.returncode > 0 else f"signal {-process.returncode}"
            return Ran(output, f"{how}: {said}" if said else how)

    def end(self) -> None:
        """Ask every program that runs to end."""
        for process in list(self._running):
            _signal(process, signal.SIGTERM)


def _signal(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    """Send a signal to a program and all that it has started, which else would hold its output open."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def variables(work: Mapping[str, Any]) -> dict[str, str]:
    """What a program is told of its work in its environment: id, key, counts, and headers as LOGBROKER_HEADER_NAME."""
    told = {f"LOGBROKER_{name.upper()}": str(work[name]) for name in ("id", "deliveries", "failures") if name in work}
    key = from_wire(work, "key")
    if key is not None:
        told["LOGBROKER_KEY"] = key.decode(errors="replace")
    for name, value in work.get("headers", []):
        if isinstance(value, str):
            told["LOGBROKER_HEADER_" + "".join(one if one.isalnum() else "_" for one in name).upper()] = value
    return {name: value for name, value in told.items() if "\0" not in value and len(value) <= _VARIABLE_LIMIT}


def work(invocation: Invocation, url: str, concurrency: int, turn: Turn, end: Callable[[], None] = lambda: None) -> None:
    """Run ``turn`` again and again on so many threads until it is False or a signal comes. Raises what one of them did."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with HttpClient(url, invocation.timeout_s) as client:
                _turns(invocation, client, stop, turn)
        except BaseException as error:
            failures.append(error)
            stop.set()

    with _stopping(invocation, stop, end):
        threads = [threading.Thread(target=run, name=f"worker {number}") for number in range(concurrency)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)  # a join without a timeout would keep signals waiting
    if failures:
        raise failures[0]


def _turns(invocation: Invocation, client: HttpClient, stop: threading.Event, turn: Turn) -> None:
    rest_s = _SHORT_REST_S
    while not stop.is_set():
        try:
            if not turn(client, stop):
                return
            rest_s = _SHORT_REST_S
        except LogbrokerError as error:
            if not error.retriable:
                raise
            if rest_s == _SHORT_REST_S or not isinstance(error, Unreachable):
                note(invocation, f"{error.code}: {error.detail}; trying again")
            stop.wait(rest_s)
            rest_s = min(_LONG_REST_S, rest_s * 2)


@contextmanager
def _stopping(invocation: Invocation, stop: threading.Event, end: Callable[[], None]) -> Generator[None, None, None]:
    def ask(number: int, _: object) -> None:
        if stop.is_set():
            end()
            return
        stop.set()
        note(invocation, "stopping: what runs may end; a second signal ends it")

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
