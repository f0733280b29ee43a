"""Apache Kafka, one KRaft node from Maven's jars, and the Java tools that come with it."""

import contextlib
import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.interop.jars import HOW_TO_GET_THEM, kafka_classpath
from tools.bench.servers.process import HOST, Missing, Server, free_port, running

BROKER_OPTIONS = [
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
]
"""What bin/kafka-run-class.sh passes for performance."""
TOOL_OPTIONS = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xmx256m"]
"""A short-lived tool starts twice as fast without the optimising compiler."""


def classpath() -> str:
    """The class path of Kafka's jars. Raises Missing."""
    found = kafka_classpath()
    if found is None:
        raise Missing(f"Kafka: {HOW_TO_GET_THEM}")
    return found


def tool_command(main_class: str, *arguments: str, options: Sequence[str] = TOOL_OPTIONS) -> list[str]:
    """The command line that runs one of Kafka's own tools."""
    return [shutil.which("java") or "java", *options, "-cp", classpath(), main_class, *arguments]


def run_tool(
    main_class: str, *arguments: str, stdin: str = "", options: Sequence[str] = TOOL_OPTIONS, timeout: float = 60
) -> str:
    """Run one of Kafka's tools and return what it printed, complaints too. Raises RuntimeError, with it, when it fails."""
    command = tool_command(main_class, *arguments, options=options)
    done = subprocess.run(
        command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{main_class} {' '.join(arguments)} failed:\n{done.stdout[-4000:]}")
    return "".join(line for line in done.stdout.splitlines(keepends=True) if not line.startswith("SLF4J:"))


def _properties(directory: Path, port: int, controller: int, settings: Mapping[str, str]) -> str:
    values = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(directory / "data"),
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        **settings,
    }
    return "".join(f"{key}={value}\n" for key, value in values.items())


@contextlib.contextmanager
def kafka(directory: Path, *, heap: str = "1G", settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A formatted, running broker; ``settings`` are added to its server.properties."""
    directory.mkdir(parents=True, exist_ok=True)
    port, controller = free_port(), free_port()
    properties = directory / "server.properties"
    properties.write_text(_properties(directory, port, controller, settings or {}), encoding="utf-8")
    if not (directory / "data").exists():
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        run_tool("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties))
    options = [*BROKER_OPTIONS, f"-Xmx{heap}", f"-Xms{heap}"]
    command = tool_command("kafka.Kafka", str(properties), options=options)
    with running("Apache Kafka", command, port, directory) as server:
        yield server
