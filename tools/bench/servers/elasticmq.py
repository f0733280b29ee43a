"""ElasticMQ, a server of Amazon's SQS interface on the JVM, from Maven's jars; messages are kept in memory."""

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tools.bench.servers.process import HOST, Missing, Server, free_port, running

POM = Path(__file__).with_name("elasticmq.pom.xml")


def classpath() -> str:
    """The jars of the pom beside this file, copied once into the user's cache. Raises Missing."""
    if shutil.which("java") is None or shutil.which("mvn") is None:
        raise Missing("ElasticMQ: install Java 17+ and Maven, which fetches its jars")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "logbroker"
    jars = cache / f"elasticmq-jars-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"
    if not any(jars.glob("elasticmq-server*.jar")):
        command = ["mvn", "--batch-mode", "--quiet", "--file", str(POM), "dependency:copy-dependencies"]
        subprocess.run([*command, f"-DoutputDirectory={jars}"], check=True)
    return str(jars / "*")


@contextlib.contextmanager
def elasticmq(directory: Path) -> Iterator[Server]:
    """A running server with the SQS interface on its port. Raises Missing."""
    jars = classpath()
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    settings = f"""include classpath("application.conf")
node-address {{ protocol = http, host = "{HOST}", port = {port}, context-path = "" }}
rest-sqs {{ enabled = true, bind-hostname = "{HOST}", bind-port = {port} }}
rest-stats {{ enabled = false }}
"""
    (directory / "elasticmq.conf").write_text(settings, encoding="utf-8")
    command = ["java", f"-Dconfig.file={directory}/elasticmq.conf", "-cp", jars, "org.elasticmq.server.Main"]
    with running("ElasticMQ", command, port, directory) as server:
        yield server
