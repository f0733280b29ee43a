"""Redis with an append-only file that is flushed before every answer (appendfsync always)."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from tools.bench.servers.process import HOST, Missing, Server, free_port, running


@contextlib.contextmanager
def redis(directory: Path, *, flush: bool = True) -> Iterator[Server]:
    """A running server. ``flush=False`` is its default of one flush a second. Raises Missing."""
    program = shutil.which("redis-server")
    if program is None:
        raise Missing("Redis: apt-get install redis-server")
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    settings = {
        "bind": HOST,
        "port": str(port),
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": "always" if flush else "everysec",
        "save": "",
    }
    arguments = [word for name, value in settings.items() for word in (f"--{name}", value)]
    with running("Redis", [program, *arguments], port, directory) as server:
        yield server
