"""``logbroker segment repair`` on a data directory that got damaged, and the broker on it afterwards."""

from collections.abc import Callable
from pathlib import Path

import pytest

from logbroker.cli.http_client import HttpClient, path
from logbroker.cli.local_broker import local_broker
from logbroker.cli.main import run
from tests.cli.conftest import Ran

RECORDS = 12
Repair = Callable[..., Ran]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A queue with messages, one of which is damaged on disk."""
    directory = tmp_path / "data"
    with local_broker(directory) as url, HttpClient(url) as client:
        client.request("PUT", path("queues", "jobs"), body={})
        for number in range(RECORDS):
            client.request("POST", path("topics", "jobs", "records"), body={"records": [{"value": f"job {number}"}]})
    return directory


@pytest.fixture
def log(data_dir: Path) -> Path:
    logs = [one for one in data_dir.glob("topics/*/0/*.log") if b"job 7" in one.read_bytes()]
    assert len(logs) == 1
    return logs[0]


@pytest.fixture
def damaged(log: Path) -> bytes:
    data = log.read_bytes().replace(b"job 7", b"job !")
    log.write_bytes(data)
    return data


@pytest.fixture
def segment(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> Repair:
    def command(*arguments: str) -> Ran:
        code = run(["segment", *arguments, "--data-dir", str(data_dir)])
        shown = capsys.readouterr()
        return Ran(code, shown.out, shown.err)

    return command


def test_by_default_nothing_is_changed(segment: Repair, log: Path, damaged: bytes, data_dir: Path) -> None:
    before = sorted(data_dir.rglob("*"))
    ran = segment("repair", "--skip", "-o", "jsonl")
    assert ran.code == 8
    assert [(row["action"], row["first_offset"], row["last_offset"], row["lost"]) for row in ran.rows] == [
        ("skipped", 7, 7, 1)
    ]
    assert "1 offsets are lost" in ran.err
    assert log.read_bytes() == damaged
    assert sorted(data_dir.rglob("*")) == before


def test_after_skip_readers_and_queues_pass_over_what_is_lost(
    segment: Repair, damaged: bytes, data_dir: Path, log: Path
) -> None:
    ran = segment("repair", "jobs", "--skip", "--execute")
    assert ran.code == 0, ran.err
    kept = list((data_dir / "repairs").glob("*/jobs-0/*.log"))
    assert [one.read_bytes() for one in kept] == [damaged]
    assert segment("verify").code == 0
    assert segment("repair", "--skip").code == 0
    with local_broker(data_dir) as url, HttpClient(url) as client:
        records = client.request("GET", path("topics", "jobs", "partitions", 0, "records") + "?offset=7")["records"]
        assert [one["offset"] for one in records] == list(range(8, RECORDS))
        received = client.request("POST", path("queues", "jobs") + ":receive", body={"max": 100})["messages"]
        assert [one["value"] for one in received] == [f"job {number}" for number in range(RECORDS) if number != 7]
        settled = client.request(
            "POST", path("queues", "jobs") + ":ack", body={"receipts": [one["receipt"] for one in received]}
        )
        assert settled
        counts = client.request("GET", path("queues", "jobs"))
        assert counts["counts"]["ready"] == 0


def test_truncate_cuts_and_says_what_goes(segment: Repair, damaged: bytes) -> None:
    ran = segment("repair", "jobs/0", "--truncate", "--execute", "-o", "jsonl")
    assert ran.code == 0
    assert [(row["action"], row["first_offset"], row["last_offset"]) for row in ran.rows] == [("cut", 7, RECORDS - 1)]
    assert segment("dump", "jobs/0", "-o", "jsonl").rows[-1]["last_offset"] == 6


def test_a_data_directory_in_use_is_not_touched(segment: Repair, data_dir: Path, log: Path) -> None:
    with local_broker(data_dir):
        log.write_bytes(log.read_bytes().replace(b"job 7", b"job !"))
        ran = segment("repair", "--skip", "--execute")
        assert ran.code == 1
        assert "in use" in ran.err
        assert b"job !" in log.read_bytes()


def test_it_must_be_said_what_to_do(segment: Repair, data_dir: Path) -> None:
    assert segment("repair").code == 2
    assert segment("repair", "nowhere", "--skip").code == 4
    assert segment("repair", "jobs", "--skip", "--backup", "/elsewhere", "--execute").code == 0  # there is nothing to do
