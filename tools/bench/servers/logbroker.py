"""logbroker itself, as a user starts it."""

import contextlib
import http.client
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.bench.servers.process import HOST, Server, free_port, running


def is_ready(port: int) -> bool:
    """Whether a broker on this port says that it serves."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@contextlib.contextmanager
def logbroker(
    directory: Path, *, durability: str = "fsync", kafka: bool = False, arguments: Sequence[str] = ()
) -> Iterator[Server]:
    """A running broker; ``port`` is its HTTP door, ``extra["kafka"]`` the Kafka door where asked for."""
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    kafka_port = free_port() if kafka else 0
    command = [sys.executable, "-m", "logbroker", "serve", "--data-dir", str(directory / "data")]
    command += ["--http", f"{HOST}:{port}", "--durability", durability]
    command += ["--kafka", f"{HOST}:{kafka_port}" if kafka else "off", *arguments]
    with running("logbroker", command, port, directory, ready=is_ready) as server:
        server.extra = {"kafka": kafka_port} if kafka else {}
        yield server
