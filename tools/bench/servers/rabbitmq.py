"""RabbitMQ, one node with its own Erlang name server, both on the loopback address."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tools.bench.servers.process import HOST, Missing, Server, free_port, running


def _environment(directory: Path, port: int, distribution: int, names: int) -> dict[str, str]:
    return {
        "RABBITMQ_NODENAME": f"bench{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": HOST,
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_CTL_ERL_ARGS": "",
        "RABBITMQ_MNESIA_BASE": str(directory / "data"),
        "RABBITMQ_LOG_BASE": str(directory / "logs"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq"),
        "RABBITMQ_PID_FILE": str(directory / "pid"),
        "ERL_EPMD_ADDRESS": HOST,
        "ERL_EPMD_PORT": str(names),
        "HOME": str(directory),
    }


@contextlib.contextmanager
def rabbitmq(directory: Path) -> Iterator[Server]:
    """A running node; user and password are ``guest``. Raises Missing."""
    if shutil.which("rabbitmq-server") is None or shutil.which("epmd") is None:
        raise Missing("RabbitMQ: apt-get install rabbitmq-server")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "enabled_plugins").write_text("[].\n", encoding="utf-8")
    (directory / "rabbitmq.conf").touch()
    port, distribution, names = free_port(), free_port(), free_port()
    environment = _environment(directory, port, distribution, names)
    epmd = subprocess.Popen(
        ["epmd", "-address", HOST, "-port", str(names)], env={**os.environ, **environment}, stdin=subprocess.DEVNULL
    )
    try:
        with running("RabbitMQ", [_program()], port, directory, environment=environment) as server:
            yield server
    finally:
        epmd.kill()
        epmd.wait()


def _program() -> str:
    """The start script itself: the packaged wrapper changes to a user that could not write the directory."""
    real = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    return str(real) if real.exists() else "rabbitmq-server"
