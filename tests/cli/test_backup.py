"""``logbroker backup`` of a running broker and ``logbroker restore``."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from logbroker.cli.http_client import HttpClient, path
from logbroker.cli.local_broker import local_broker
from logbroker.cli.main import run
from tests.cli.conftest import Ran

Command = Callable[..., Ran]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    def ran(*arguments: object) -> Ran:
        code = run([str(one) for one in arguments])
        shown = capsys.readouterr()
        return Ran(code, shown.out, shown.err)

    return ran


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    with local_broker(tmp_path / "data") as url:
        yield url


def filled(url: str, count: int, first: int = 0) -> None:
    with HttpClient(url) as client:
        client.request("PUT", path("queues", "jobs"), body={})
        client.request("PUT", path("topics", "small"), body={"partitions": 1, "config": {"segment_bytes": 4_000}})
        for number in range(first, first + count):
            record = {"records": [{"value": f"{number:05d}" * 100}]}
            client.request("POST", path("topics", "small", "records"), body=record)
            client.request("POST", path("topics", "jobs", "records"), body=record)


def numbers(url: str, topic: str) -> list[int]:
    found: list[int] = []
    with HttpClient(url) as client:
        offset, end = 0, client.request("GET", path("topics", topic, "partitions", 0))["high_watermark"]
        while offset < end:
            read = client.request("GET", path("topics", topic, "partitions", 0, "records") + f"?offset={offset}")
            found += [int(one["value"][:5]) for one in read["records"]]
            offset = read["next_offset"]
    return found


def test_a_restored_broker_has_what_was_there_and_keeps_its_promises(command: Command, broker: str, tmp_path: Path) -> None:
    filled(broker, 20)
    with HttpClient(broker) as client:
        received = client.request("POST", path("queues", "jobs") + ":receive", body={"max": 12})["messages"]
        done = [one["receipt"] for one in received[:7]]
        client.request("POST", path("queues", "jobs") + ":ack", body={"receipts": done})
        commit = {"offsets": [{"topic": "small", "partition": 0, "offset": 11}]}
        client.request("PUT", path("groups", "readers", "offsets"), body=commit)
    ran = command("backup", tmp_path / "kept", "--url", broker, "-o", "json")
    assert ran.code == 0, ran.err
    filled(broker, 5, 20)

    restored = tmp_path / "restored"
    assert command("restore", tmp_path / "kept", "--data-dir", restored).code == 0
    with local_broker(restored) as url, HttpClient(url) as client:
        assert numbers(url, "small") == list(range(20))
        offsets = client.request("GET", path("groups", "readers", "offsets"))
        assert "11" in json.dumps(offsets)
        ids = set()
        late = [one["receipt"] for one in received[7:]]
        settled = client.request("POST", path("queues", "jobs") + ":ack", body={"receipts": late})
        assert settled, "leases are in the backup too"
        while messages := client.request("POST", path("queues", "jobs") + ":receive", body={"max": 50})["messages"]:
            ids |= {int(one["value"][:5]) for one in messages}
            client.request("POST", path("queues", "jobs") + ":ack", body={"receipts": [one["receipt"] for one in messages]})
        assert ids == set(range(12, 20))


def test_under_load_what_was_acknowledged_before_is_in_and_what_was_done_stays_done(
    command: Command, broker: str, tmp_path: Path
) -> None:
    filled(broker, 10)
    acknowledged: list[int] = []
    settled: list[int] = []
    over = threading.Event()

    def produce() -> None:
        with HttpClient(broker) as client:
            for number in range(10, 100_000):
                if over.is_set():
                    return
                record = {"records": [{"value": f"{number:05d}" * 100}]}
                client.request("POST", path("topics", "jobs", "records"), body=record)
                acknowledged.append(number)

    def consume() -> None:
        with HttpClient(broker) as client:
            while not over.is_set():
                for one in client.request("POST", path("queues", "jobs") + ":receive", body={"max": 3})["messages"]:
                    client.request("POST", path("queues", "jobs") + ":ack", body={"receipts": [one["receipt"]]})
                    settled.append(int(one["value"][:5]))

    threads = [threading.Thread(target=work) for work in (produce, consume)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            before, done_before = set(acknowledged), set(settled)
            ran = command("backup", tmp_path / "kept", "--url", broker)
            assert ran.code == 0, ran.err
    finally:
        over.set()
        for thread in threads:
            thread.join()
    restored = tmp_path / "restored"
    assert command("restore", tmp_path / "kept", "--data-dir", restored).code == 0
    with local_broker(restored) as url, HttpClient(url) as client:
        there = set(numbers(url, "jobs"))
        assert there >= before
        delivered = set()
        client.request("PATCH", path("queues", "jobs"), body={"visibility_timeout_ms": 600_000})
        while messages := client.request("POST", path("queues", "jobs") + ":receive", body={"max": 100})["messages"]:
            delivered |= {int(one["value"][:5]) for one in messages}
        assert delivered.isdisjoint(done_before)
        leased = client.request("GET", path("queues", "jobs"))["counts"]["in_flight"] - len(delivered)
        assert len(there - set(settled) - delivered) <= leased


def test_a_second_backup_copies_only_what_is_new(command: Command, broker: str, tmp_path: Path) -> None:
    filled(broker, 60)
    first = command("backup", tmp_path / "kept", "--url", broker, "-o", "json").json
    filled(broker, 3, 60)
    second = command("backup", tmp_path / "kept", "--url", broker, "-o", "json").json
    assert first["linked_bytes"] == 0
    assert second["linked_bytes"] > 20_000
    logs = sorted(Path(first["path"]).rglob("*.log"))
    sealed = next(one for one in logs if one.with_suffix(".digest").exists())
    again = Path(second["path"]) / sealed.relative_to(first["path"])
    assert again.stat().st_ino == sealed.stat().st_ino
    for one in (first, second):
        target = tmp_path / Path(one["path"]).name
        assert command("restore", one["path"], "--data-dir", f"{target}-restored").code == 0


def test_every_file_of_a_backup_that_changed_is_found(command: Command, broker: str, tmp_path: Path) -> None:
    filled(broker, 20)
    kept = Path(command("backup", tmp_path / "kept", "--url", broker, "-o", "json").json["path"])
    for number, one in enumerate(sorted(file for file in kept.rglob("*") if file.is_file() and file.stat().st_size)):
        whole = one.read_bytes()
        at = len(whole) // 2
        one.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        target = tmp_path / f"restored-{number}"
        assert command("restore", kept, "--data-dir", target).code != 0, one
        assert not (target / "catalog.json").exists()
        one.write_bytes(whole)
        if number > 15:
            break
    assert command("restore", kept, "--data-dir", tmp_path / "restored").code == 0


def test_a_stopped_broker_is_backed_up_from_its_files(command: Command, tmp_path: Path) -> None:
    with local_broker(tmp_path / "data") as url:
        filled(url, 10)
        assert command("backup", tmp_path / "kept", "--offline", "--data-dir", tmp_path / "data").code == 1
    assert command("backup", tmp_path / "kept", "--offline", "--data-dir", tmp_path / "data").code == 0
    assert command("restore", tmp_path / "kept", "--data-dir", tmp_path / "restored").code == 0
    with local_broker(tmp_path / "restored") as url:
        assert numbers(url, "small") == list(range(10))


def test_what_is_no_backup_or_no_empty_directory_is_refused(command: Command, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    assert "holds no backup" in command("restore", tmp_path / "nothing", "--data-dir", tmp_path / "r").err
    with local_broker(tmp_path / "data") as url:
        assert command("backup", tmp_path / "kept", "--url", url).code == 0
    ran = command("restore", tmp_path / "kept", "--data-dir", tmp_path / "data")
    assert ran.code == 1
    assert "not empty" in ran.err
