"""A broker of one's own for the time of a command: a process on free ports.

What lives here: starting it, waiting until it listens, and its end. What may not: what is done with it.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from logbroker.errors import LogbrokerError

_STOP_TIMEOUT_S = 15.0


@contextmanager
def local_broker(data_dir: Path | None = None) -> Iterator[str]:
    """The URL of a broker that ends with the block; without ``data_dir`` it starts empty and leaves nothing behind.

    Raises LogbrokerError when it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="logbroker-") as temporary:
        command = [sys.executable, "-m", "logbroker", "serve", "--data-dir", str(data_dir or temporary)]
        command += ["--http", "127.0.0.1:0", "--kafka", "off"]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("LOGBROKER_")}
        environ["LOGBROKER_LOG_LEVEL"] = "warning"
        process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
        try:
            yield _http_url(process)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _http_url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        words = line.split()
        if words[:2] == ["listening", "http"]:
            return words[2]
    raise LogbrokerError(f"the broker did not start: it ended with exit code {process.wait()}")
