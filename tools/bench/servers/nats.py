"""NATS with JetStream on files, built from its Go module; flushed before every acknowledgement (sync_interval: always)."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tools.bench.servers.process import HOST, Missing, Server, free_port, running

MODULE = "github.com/nats-io/nats-server/v2"
VERSION = "v2.15.2"


def binary() -> Path:
    """The server, built once into the user's cache. Raises Missing."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "logbroker" / f"nats-{VERSION}"
    program = cache / "nats-server"
    if not program.exists():
        if shutil.which("go") is None:
            raise Missing(f"NATS: install Go, with which {MODULE} is built")
        environment = {**os.environ, "GOBIN": str(cache), "GOFLAGS": "-mod=mod"}
        subprocess.run(["go", "install", f"{MODULE}@{VERSION}"], env=environment, check=True)
    return program


@contextlib.contextmanager
def nats(directory: Path, *, flush: bool = True) -> Iterator[Server]:
    """A running server. ``flush=False`` is its default of one flush in two minutes. Raises Missing."""
    program = binary()
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    interval = "always" if flush else "2m"
    settings = f'listen: "{HOST}:{port}"\njetstream {{ store_dir: "{directory}/data", sync_interval: {interval} }}\n'
    (directory / "nats.conf").write_text(settings, encoding="utf-8")
    with running("NATS", [str(program), "-c", str(directory / "nats.conf")], port, directory) as server:
        yield server
