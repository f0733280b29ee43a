"""Where Kafka's jars are for the interop tests, and how they get there.

``python -m tests.interop.jars`` copies the jars of ``pom.xml`` by Maven into a folder of the user's cache, named by a
digest of the pom, once; ``kafka_classpath()`` only looks. LOGBROKER_KAFKA_JARS names another folder of jars to use as it
is. Tests take the ``kafka_jars`` fixture of ``tests/interop/conftest.py``: it skips where Java or the jars are missing,
and fails instead when CI=true, so that CI cannot pass by skipping.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

POM = Path(__file__).with_name("pom.xml")
HOW_TO_GET_THEM = "run: .venv/bin/python -m tests.interop.jars (needs Java 17+ and Maven)"


def jars_folder() -> Path:
    """The folder that holds, or is to hold, the jars."""
    named = os.environ.get("LOGBROKER_KAFKA_JARS")
    if named:
        return Path(named)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "logbroker" / f"kafka-jars-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"


def kafka_classpath() -> str | None:
    """A Java class path with Kafka's tools and broker, or None when Java or the jars are not there."""
    if shutil.which("java") is None or not any(jars_folder().glob("kafka_2.13-*.jar")):
        return None
    return str(jars_folder() / "*")


def fetch() -> None:
    """Copy the jars into their folder, unless they are there. Raises CalledProcessError when Maven fails."""
    folder = jars_folder()
    if any(folder.glob("kafka_2.13-*.jar")):
        return
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = ["mvn", "--batch-mode", "--quiet", "--file", str(POM), "dependency:copy-dependencies"]
    subprocess.run([*command, f"-DoutputDirectory={partial}"], check=True)
    partial.rename(folder)


if __name__ == "__main__":
    fetch()
    sys.exit(0 if kafka_classpath() else f"Kafka's jars are not usable in {jars_folder()}; {HOW_TO_GET_THEM}")
