"""Programs as workers of a queue and as a service: ``queue work``, ``request``, ``reply``, ``demo replies``."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from logbroker.cli.http_client import HttpClient, path
from logbroker.cli.replies import _ask
from tests.cli.conftest import CommandLine
from tests.cli.test_queues import counts, fill

PYTHON = sys.executable


@contextmanager
def running(logbroker: CommandLine, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """The command in a process of its own, which is ended with the block."""
    command = [PYTHON, "-m", "logbroker", "--url", logbroker.url, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(condition: object) -> None:
    """Return when ``condition()`` holds; fails after 20 s."""
    assert callable(condition)
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it never became true"
        time.sleep(0.02)


# -- queue work --------------------------------------------------------------------------------------------------------


def test_a_command_gets_each_message_and_its_exit_code_decides(logbroker: CommandLine, tmp_path: Path) -> None:
    fill(logbroker, "work", "good 1", "bad", "good 2", settings=("max_attempts=1",))
    script = (
        "import os, pathlib, sys; value = sys.stdin.read();"
        f"file = pathlib.Path({str(tmp_path)!r}, os.environ['LOGBROKER_ID']);"
        "file.write_text(value + ' ' + os.environ['LOGBROKER_KEY'] + ' ' + os.environ['LOGBROKER_DELIVERIES']);"
        "sys.exit('no such user' if value == 'bad' else 0)"
    )
    ran = logbroker("queue", "work", "work", "--exit-when-empty", "-o", "json", "--", PYTHON, "-c", script)
    assert (ran.code, ran.json) == (0, {"acked": 2, "failed": 1, "lease_lost": 0})
    assert sorted(file.read_text() for file in tmp_path.iterdir()) == ["bad k 1", "good 1 k 1", "good 2 k 1"]
    until(lambda: counts(logbroker, "work")["dead"] == 1)
    [dead] = logbroker("dlq", "ls", "work", "-o", "jsonl").rows
    assert dead["last_error"] == "exit code 1: no such user"


def test_a_command_that_cannot_be_run_or_runs_too_long_has_failed(logbroker: CommandLine) -> None:
    fill(logbroker, "bad-command", "x", settings=("max_attempts=1",))
    assert logbroker("queue", "work", "bad-command", "--exit-when-empty", "--", "/no/such/program").code == 0
    fill(logbroker, "slow-command", "x", settings=("max_attempts=1",))
    sleeping = ("sh", "-c", "sleep 60; true")  # a program whose child holds its output open
    began = time.monotonic()
    assert (
        logbroker("queue", "work", "slow-command", "--exit-when-empty", "--kill-after", "200ms", "--", *sleeping).code == 0
    )
    assert time.monotonic() - began < 30
    for queue, said in (("bad-command", "cannot be run"), ("slow-command", "more than 0.2 s")):
        until(lambda queue=queue: counts(logbroker, queue)["dead"] == 1)
        [dead] = logbroker("dlq", "ls", queue, "-o", "jsonl").rows
        assert said in dead["last_error"]


def test_the_lease_is_renewed_while_a_command_runs(logbroker: CommandLine, tmp_path: Path) -> None:
    fill(logbroker, "long", "x", settings=("visibility_timeout_ms=1000",))
    script = f"import time; time.sleep(2.2); open({str(tmp_path / 'runs')!r}, 'a').write('x')"
    ran = logbroker("queue", "work", "long", "--exit-when-empty", "-o", "json", "--", PYTHON, "-c", script)
    assert ran.json == {"acked": 1, "failed": 0, "lease_lost": 0}
    assert (tmp_path / "runs").read_text() == "x"


def test_a_signal_ends_it_once_what_runs_has_come_to_its_end(logbroker: CommandLine, tmp_path: Path) -> None:
    fill(logbroker, "drained", "1", "2", "3")
    begun = tmp_path / "begun"
    script = f"import time; open({str(begun)!r}, 'a').write('x'); time.sleep(1)"
    with running(logbroker, "queue", "work", "drained", "-o", "json", "--", PYTHON, "-c", script) as process:
        until(begun.exists)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert '"acked": 1' in out
    assert "stopping" in err
    left = counts(logbroker, "drained")
    assert (left["ready"], left["in_flight"]) == (2, 0)


def test_a_queue_that_is_not_there_is_an_error(logbroker: CommandLine) -> None:
    assert logbroker("queue", "work", "missing", "--", "true").code == 4


# -- request and reply -------------------------------------------------------------------------------------------------


def test_a_question_is_answered_by_a_command(logbroker: CommandLine) -> None:
    shout = (PYTHON, "-c", "import sys; text = sys.stdin.read(); sys.exit('no') if text == 'bad' else print(text.upper())")
    with running(logbroker, "reply", "shout", "-c", "2", "--", *shout) as process:
        assert process.stderr is not None
        assert "listening" in process.stderr.readline()
        until(lambda: logbroker("request", "shout", "hello").code != 7)
        assert logbroker("request", "shout", "hello").out == "HELLO\n"
        assert logbroker("request", "shout", stdin=b"from stdin").out == "FROM STDIN\n"
        refused = logbroker("request", "shout", "bad")
        assert (refused.code, refused.err) == (1, "error[REMOTE_ERROR]: exit code 1: no\n")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "answered" in out


def test_bytes_come_back_as_they_went(logbroker: CommandLine) -> None:
    data = bytes(range(256))
    with running(logbroker, "reply", "echo", "--echo"):
        until(lambda: logbroker("request", "echo", "x").code == 0)
        # the command prints bytes, which the captured text of this process cannot carry
        command = [PYTHON, "-m", "logbroker", "--url", logbroker.url, "request", "echo"]
        assert subprocess.run(command, input=data, capture_output=True, check=True).stdout == data + b"\n"


def test_without_a_responder_the_exit_code_says_so_and_the_hint_helps(logbroker: CommandLine) -> None:
    ran = logbroker("request", "nobody", "hello")
    assert ran.code == 7
    assert "logbroker reply SERVICE -- COMMAND" in ran.err


def test_reply_wants_a_command_or_echo(logbroker: CommandLine) -> None:
    assert logbroker("reply", "x").code == 2
    assert logbroker("reply", "x", "--echo", "--", "cat").code == 2


def test_demo_replies_answers_every_question_although_responders_die(logbroker: CommandLine) -> None:
    ran = logbroker("demo", "replies", "--requests", "200", "--responders", "4", "-o", "json")
    assert (ran.code, ran.json["right_answers"], ran.json["died"]) == (0, 200, 3)
    assert ran.json["no_responders_after_ms"] < 1_000
    with HttpClient(logbroker.url) as client:
        assert "svc.demo-square" not in [queue["name"] for queue in client.pages(path("queues"))]


def test_demo_replies_asks_nothing_more_once_it_is_stopped(logbroker: CommandLine) -> None:
    stop = threading.Event()
    stop.set()
    assert _ask(logbroker.url, range(5), stop, lambda _: None) == []
