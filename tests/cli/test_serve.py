"""``logbroker serve`` as a process: it starts, says where it listens, stops when asked, and refuses what it should."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from logbroker.cli.http_client import HttpClient, path
from logbroker.cli.main import run
from logbroker.errors import LogbrokerError

_DEADLINE_S = 10.0


class Served:
    """A broker process and the URL of its HTTP door."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(_DEADLINE_S)


@contextmanager
def serving(directory: Path, *flags: str, program: tuple[str, ...] = ("-m", "logbroker")) -> Iterator[Served]:
    command = [sys.executable, *program, "serve", "--data-dir", str(directory), "--http", "127.0.0.1:0", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("listening http "):
                yield Served(process, line.split()[2])
                return
        assert process.stderr is not None
        raise AssertionError(f"the broker did not start: {process.stderr.read()}")
    finally:
        process.kill()
        process.communicate()


def refusal(directory: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """A serve that must not come up."""
    command = [sys.executable, "-m", "logbroker", "serve", "--data-dir", str(directory), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE_S, check=False)


def ready(url: str) -> bool:
    with urllib.request.urlopen(f"{url}/readyz", timeout=_DEADLINE_S) as answer:
        return answer.status == 200 and bool(json.load(answer)["ready"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_and_ends_with_exit_code_0_when_asked(tmp_path: Path, number: int) -> None:
    with serving(tmp_path, "--kafka", "off") as broker:
        assert ready(broker.url)
        began = time.monotonic()
        assert broker.stop(number) == 0
        assert time.monotonic() - began < _DEADLINE_S


def test_a_stop_answers_what_waits(tmp_path: Path) -> None:
    with serving(tmp_path, "--kafka", "off") as broker, HttpClient(broker.url) as client:
        client.request("PUT", path("topics", "t"), body={"partitions": 1})
        answers: list[object] = []

        def wait_for_records() -> None:
            with HttpClient(broker.url) as poller:
                answers.append(poller.get(path("topics", "t", "partitions", 0, "records"), {"wait_ms": 60_000}))

        waiting = threading.Thread(target=wait_for_records)
        waiting.start()
        while b"logbroker_long_polls_waiting 1.0" not in client.send("GET", "/metrics"):
            time.sleep(0.01)
        assert broker.stop() == 0
        waiting.join(_DEADLINE_S)
    assert [answer["records"] for answer in answers if isinstance(answer, dict)] == [[]]


def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    records = [{"value": f"record {number}"} for number in range(10)]
    with serving(tmp_path, "--kafka", "off") as broker, HttpClient(broker.url) as client:
        client.request("PUT", path("topics", "t"), body={"partitions": 1})
        client.request("POST", path("topics", "t", "records"), body={"records": records})
        broker.stop(signal.SIGKILL)
    with serving(tmp_path, "--kafka", "off") as broker, HttpClient(broker.url) as client:
        read = client.get(path("topics", "t", "partitions", 0, "records"))["records"]
    assert [record["value"] for record in read] == [record["value"] for record in records]


def test_a_damaged_partition_is_told_and_hides_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path, "--kafka", "off") as broker, HttpClient(broker.url) as client:
        client.request("PUT", path("topics", "t"), body={"partitions": 2})
        for number in range(6):
            record = {"value": f"record {number}", "partition": number % 2}
            client.request("POST", path("topics", "t", "records"), body={"records": [record]})
        broker.stop(signal.SIGKILL)
    (log,) = (log for log in tmp_path.glob("topics/*/0/*.log") if log.stat().st_size)
    whole = log.read_bytes()
    log.write_bytes(whole[:70] + bytes([whole[70] ^ 1]) + whole[71:])
    with serving(tmp_path, "--kafka", "off") as broker:
        assert run(["topic", "describe", "t", "--url", broker.url]) == 8
        assert "error[PARTITION_DAMAGED]: " in capsys.readouterr().err
        assert run(["consume", "t", "-p", "0", "--url", broker.url, "--no-headers"]) == 8
        assert capsys.readouterr().out == ""
        assert run(["consume", "t", "-p", "1", "--url", broker.url, "--format", "%v,"]) == 0
        assert capsys.readouterr().out == "record 1,record 3,record 5,"
        assert run(["topic", "ls", "--url", broker.url, "--no-headers"]) == 0
        assert capsys.readouterr().out.split()[-1] == "1"


def test_a_second_broker_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path, "--kafka", "off") as broker:
        second = refusal(tmp_path, "--http", "127.0.0.1:0", "--kafka", "off")
        assert second.returncode == 1
        assert second.stderr.startswith("error[DATA_DIRECTORY]: ")
        assert str(broker.process.pid) in second.stderr
        assert ready(broker.url)


def test_an_address_in_use_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refused = refusal(tmp_path, "--http", address, "--kafka", "off")
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error[INVALID_CONFIG]: http = '{address}' cannot be opened: ")


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "broker.example:0"])
def test_a_public_address_is_refused_without_insecure_public(tmp_path: Path, address: str) -> None:
    refused = refusal(tmp_path / "data", "--http", address, "--kafka", "off")
    assert refused.returncode == 2
    assert "there is no authentication" in refused.stderr
    assert not (tmp_path / "data").exists()


def test_settings_come_from_flag_environment_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "logbroker.toml"
    file.write_text('num_partitions = 3\n[topics]\ndurability = "os"\nretention_ms = 1000000\n')
    monkeypatch.setenv("LOGBROKER_DURABILITY", "interval")
    flags = ("--kafka", "off", "--config", str(file), "--durability", "fsync")
    with serving(tmp_path / "data", *flags) as broker, HttpClient(broker.url) as client:
        client.request("PUT", path("topics", "t"), body={})
        assert client.get(path("topics", "t"))["partitions"] == 3
        config = client.get(path("topics", "t", "config"))["config"]
    assert config["durability"]["value"] == "fsync"
    assert config["retention_ms"]["value"] == 1_000_000


_FAILING = """
import os, pathlib, sys, time
from logbroker.cli.main import run

flag, real, failing = pathlib.Path(sys.argv.pop(1)), os.fdatasync, []

def fdatasync(descriptor):
    if not flag.exists():
        return real(descriptor)
    failing.append(descriptor)
    if len(failing) == 1:
        time.sleep(60)
    raise OSError(5, "Input/output error")

os.fdatasync = fdatasync
sys.exit(run(sys.argv[1:]))
"""
"""Once ``flag`` is there, the first flush hangs, as one to a dying disk may, and every other fails."""


def test_a_failed_flush_ends_the_process_within_a_second_and_acknowledges_nothing(tmp_path: Path) -> None:
    flag = tmp_path / "fail"
    program = ("-c", _FAILING, str(flag))
    with serving(tmp_path / "data", "--kafka", "off", program=program) as broker, HttpClient(broker.url) as client:
        client.request("PUT", path("topics", "t"), body={"partitions": 2})
        flag.touch()
        began = time.monotonic()
        records = [{"value": "lost", "partition": partition} for partition in (0, 1)]
        with pytest.raises(LogbrokerError):
            client.request("POST", path("topics", "t", "records"), body={"records": records})
        assert broker.process.wait(_DEADLINE_S) == 1
        assert time.monotonic() - began < 1.0
        assert broker.process.stderr is not None
        assert "error[FLUSH_FAILED]: " in broker.process.stderr.read()


_FEW_DESCRIPTORS = """
import resource, sys
from logbroker.cli.main import run

resource.setrlimit(resource.RLIMIT_NOFILE, (128, 256))
sys.exit(run(sys.argv[1:]))
"""


def test_more_partitions_than_descriptors_are_served_all_the_same(tmp_path: Path) -> None:
    program = ("-c", _FEW_DESCRIPTORS)
    with serving(tmp_path, "--kafka", "off", program=program) as broker, HttpClient(broker.url) as client:
        client.request("PUT", path("topics", "t"), body={"partitions": 400})
        records = [{"value": str(partition), "partition": partition} for partition in range(400)]
        answer = client.request("POST", path("topics", "t", "records"), body={"records": records})
        assert [result["offset"] for result in answer["results"]] == [0] * 400
        assert broker.stop() == 0
        assert broker.process.stderr is not None
        assert "max_open_files is lowered to 128: this process may have 256 descriptors" in broker.process.stderr.read()


def test_the_process_runs_without_uvloop_too(tmp_path: Path) -> None:
    program = ("-c", "import sys; sys.modules['uvloop'] = None; from logbroker.cli.main import main; main()")
    with serving(tmp_path, "--kafka", "off", program=program) as broker:
        assert ready(broker.url)
        assert broker.stop() == 0


def test_nothing_is_written_outside_the_data_directory(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--kafka", "off") as broker:
        broker.stop()
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]
