"""What ``logbroker queue`` and ``logbroker dlq`` print and do, against a broker."""

import json
import re
import socket
import threading
import time
from typing import Any

import pytest

from logbroker.cli.http_client import HttpClient, path
from tests.cli.conftest import CommandLine

STAMP = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
ID = re.compile(r"[0-9a-f]+-(\d+-[sr]\d+)")


def golden(text: str) -> str:
    """The text with what differs from run to run made the same, and columns one space apart."""
    text = ID.sub(r"ID-\1", STAMP.sub("TIME", text))
    return "".join(" ".join(line.split()) + "\n" for line in text.splitlines())


def fill(logbroker: CommandLine, queue: str, *values: str, settings: tuple[str, ...] = ()) -> list[str]:
    """A queue with messages of key k in it. Their ids."""
    options = [part for setting in settings for part in ("-c", setting)]
    assert logbroker("queue", "create", queue, *options).code == 0
    sent = logbroker("queue", "send", queue, "-k", "k", "-o", "jsonl", stdin="\n".join(values).encode())
    assert sent.code == 0
    return [row["id"] for row in sent.rows]


def bury(logbroker: CommandLine, queue: str, *reasons: str) -> list[str]:
    """A queue with a dead letter for each reason. Their ids."""
    ids = fill(logbroker, queue, *(f"value {at}" for at in range(len(reasons))))
    with HttpClient(logbroker.url) as client:
        received = client.request("POST", path("queues", f"{queue}:receive"), body={"max": len(reasons)})["messages"]
        pairs = zip(received, reasons, strict=True)
        entries = [{"receipt": message["receipt"], "reason": reason} for message, reason in pairs]
        client.request("POST", path("queues", f"{queue}:reject"), body={"entries": entries})
    return ids


def counts(logbroker: CommandLine, queue: str) -> dict[str, Any]:
    (row,) = logbroker("queue", "stats", queue, "-o", "jsonl").rows
    return dict(row["counts"])


# -- queues ------------------------------------------------------------------------------------------------------------


def test_queue_ls_and_stats_show_what_waits(logbroker: CommandLine) -> None:
    fill(logbroker, "list-a", "1", "2")
    fill(logbroker, "list-b")
    listed = re.sub(r"\d+ms", "0ms", golden(logbroker("queue", "ls", "list-").out))
    assert listed == (
        "NAME READY IN FLIGHT DELAYED RETRYING DEAD OLDEST PAUSED\nlist-a 2 0 0 0 0 0ms no\nlist-b 0 0 0 0 0 0ms no\n"
    )
    assert logbroker("queue", "receive", "list-a", "--ack").code == 0
    shown = re.sub(r"\d+ms", "0ms", golden(logbroker("queue", "stats", "list-a").out))
    assert shown == (
        "NAME READY IN FLIGHT DELAYED RETRYING DEAD OLDEST SENT ACKED FAILED RETRIED EXPIRED DEAD LETTERED\n"
        "list-a 1 0 0 0 0 0ms 2 1 0 0 0 0\n"
    )


def test_settings_are_given_with_dots_and_shown_so(logbroker: CommandLine) -> None:
    made = logbroker("queue", "create", "set", "-c", "retry.policy=list", "-c", "retry.delays_ms=10,200", "-o", "json")
    assert made.json["config"]["retry"] | {"policy": "list", "delays_ms": [10, 200]} == made.json["config"]["retry"]
    assert logbroker("queue", "create", "set", "-c", "retry.policy=list", "-c", "retry.delays_ms=10,200").code == 0
    conflict = logbroker("queue", "create", "set")
    assert (conflict.code, conflict.err) == (
        5,
        "error[CONFIG_CONFLICT]: queue 'set' exists with other settings\n"
        "hint: 'logbroker topic|queue|sub describe NAME' shows it; 'alter' changes it\n",
    )
    assert logbroker("queue", "alter", "set", "-c", "max_size=7", "-c", "dlq.max_size=9").code == 0
    described = logbroker("queue", "describe", "set").out
    for line in ("retry.policy +list", r"retry.delays_ms +\[10, 200\]", "max_size +7", "dlq.max_size +9"):
        assert re.search(f"^{line}$", described, re.MULTILINE), line
    altered = logbroker("queue", "alter", "set", "--unset", "max_size", "--unset", "dlq.max_size", "-o", "json").json
    assert (altered["config"]["max_size"], altered["config"]["dlq"]["max_size"]) == (None, 10_000)
    assert logbroker("queue", "alter", "set").code == 2
    assert logbroker("queue", "alter", "set", "-c", "max_size").code == 2
    assert logbroker("queue", "alter", "set", "-c", "max_size=none").code == 2


def test_a_queue_is_made_of_the_records_of_a_topic(logbroker: CommandLine) -> None:
    assert logbroker("topic", "create", "was-topic").code == 0
    logbroker("produce", "was-topic", stdin=b"a\nb\nc")
    assert logbroker("queue", "create", "was-topic", "--start", "1").code == 0
    assert logbroker("queue", "receive", "was-topic", "-n", "9", "--ack", "--format", "%v").out == "bc"


def test_describe_shows_the_consumers(logbroker: CommandLine) -> None:
    fill(logbroker, "worked", "a", "b")
    logbroker("queue", "receive", "worked", "--ack", "--consumer", "first")
    assert golden(logbroker("queue", "describe", "worked").out).endswith(
        "\nCONSUMER RECEIVED PROCESSED ERRORS IN FLIGHT LAST SEEN\nfirst 1 1 0 0 TIME\n"
    )
    described = logbroker("queue", "describe", "worked", "-o", "json").json
    assert [one["consumer"] for one in described["consumer_details"]] == ["first"]


def test_stats_are_shown_again_and_again_until_interrupted(logbroker: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(logbroker, "watched")
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    shown = logbroker("queue", "stats", "watched", "--watch", "--no-headers")
    assert (shown.code, waits, len(shown.out.splitlines())) == (130, [2.0, 2.0, 2.0], 3)


def test_a_paused_queue_delivers_nothing(logbroker: CommandLine) -> None:
    fill(logbroker, "held", "a")
    assert logbroker("queue", "pause", "held").err == "paused queue 'held'\n"
    assert logbroker("queue", "receive", "held", "--format", "%v").out == ""
    assert logbroker("queue", "resume", "held", "-q").err == ""
    assert logbroker("queue", "receive", "held", "--format", "%v").out == "a"


@pytest.mark.parametrize("verb", ["purge", "delete"])
def test_what_destroys_shows_what_and_demands_yes(logbroker: CommandLine, verb: str) -> None:
    queue = f"doomed-{verb}"
    fill(logbroker, queue, "a", "b")
    asked = logbroker("queue", verb, queue)
    assert asked.code == 2
    assert "(2 ready, 0 in flight, 0 delayed, 0 retrying)" in asked.err
    assert "Say --yes" in asked.err
    assert counts(logbroker, queue)["ready"] == 2
    done = logbroker("queue", verb, queue, "--yes")
    assert (done.code, done.err) == (0, f"{verb}d queue '{queue}'\n")
    if verb == "purge":
        assert counts(logbroker, queue)["ready"] == 0
    else:
        assert logbroker("queue", "describe", queue).code == 4


def test_a_queue_that_is_not_there_is_exit_code_4(logbroker: CommandLine) -> None:
    lines = ["queue describe", "queue receive", "queue peek", "queue stats", "queue delete", "queue pause", "queue purge"]
    for line in (*lines, "dlq ls", "dlq errors", "dlq export", "dlq redrive", "dlq discard"):
        refused = logbroker(*line.split(), "nix")
        assert refused.code == 4, line
        assert refused.err.startswith("error[QUEUE_NOT_FOUND]: "), line
        assert "hint: 'logbroker queue ls'" in refused.err


# -- messages ----------------------------------------------------------------------------------------------------------


def test_a_message_is_sent_looked_at_received_and_done(logbroker: CommandLine) -> None:
    logbroker("queue", "create", "life")
    sent = logbroker("queue", "send", "life", "-k", "anna", "-H", "from:shop", stdin=b"tea\nmilk")
    assert golden(sent.out) == "ID PARTITION OFFSET DUPLICATE\nID-0-s0 0 0 no\nID-0-s1 0 1 no\n"
    peeked = "ID SENT PRIORITY FAILURES KEY VALUE\nID-0-s0 TIME 0 0 anna tea\nID-0-s1 TIME 0 0 anna milk\n"
    assert golden(logbroker("queue", "peek", "life").out) == peeked
    assert golden(logbroker("queue", "peek", "life").out) == peeked
    received = logbroker("queue", "receive", "life")
    assert golden(received.out) == "ID DELIVERIES FAILURES KEY VALUE\nID-0-s0 1 0 anna tea\n"
    assert "they come back when their visibility timeout is over" in received.err
    held = golden(logbroker("queue", "peek", "life", "--state", "in_flight").out)
    assert held == "ID CONSUMER UNTIL DELIVERIES KEY VALUE\nID-0-s0 anonymous TIME 1 anna tea\n"
    done = logbroker("queue", "receive", "life", "-n", "5", "--ack", "-o", "jsonl")
    (message,) = done.rows
    assert (done.err, message["value"], message["headers"]) == ("", "milk", [["from", "shop"]])
    assert counts(logbroker, "life") | {"ready": 0, "in_flight": 1} == counts(logbroker, "life")


def test_receive_peek_takes_nothing(logbroker: CommandLine) -> None:
    fill(logbroker, "glanced", "a", "b", "c")
    assert logbroker("queue", "receive", "glanced", "--peek", "-n", "2", "--format", "%v ").out == "a b "
    assert counts(logbroker, "glanced")["ready"] == 3


def test_more_messages_than_one_request_brings_are_received_and_done(logbroker: CommandLine) -> None:
    fill(logbroker, "many", *map(str, range(2_300)))
    got = logbroker("queue", "receive", "many", "-n", "2200", "--ack", "--format", "%v\\n").out.split()
    assert got == [str(at) for at in range(2_200)]
    assert counts(logbroker, "many") | {"ready": 100, "in_flight": 0} == counts(logbroker, "many")


def test_bytes_come_out_as_they_went_in(logbroker: CommandLine) -> None:
    logbroker("queue", "create", "bytes")
    data = bytes(range(256))
    assert logbroker("queue", "send", "bytes", "--input", "raw", stdin=data).code == 0
    copied = logbroker("queue", "peek", "bytes", "-o", "jsonl").out.encode()
    assert logbroker("queue", "send", "bytes", "--input", "jsonl", stdin=copied).code == 0
    first, second = logbroker("queue", "peek", "bytes", "-o", "json").json
    assert first["value_b64"] == second["value_b64"]


def test_a_delayed_message_is_put_off_and_delivered_now(logbroker: CommandLine) -> None:
    logbroker("queue", "create", "later")
    sent = logbroker("queue", "send", "later", "--delay", "1h", "-o", "jsonl", stdin=b"a\nb").rows
    first, second = (one["id"] for one in sent)
    assert logbroker("queue", "retry", "later", first, "--at", "2030-01-01T00:00", "--delay", "1s").code == 2
    moved = logbroker("queue", "retry", "later", first, "--at", "2030-01-01T00:00")
    assert "2030-01-01T00:00:00.000Z" in moved.out
    waiting = logbroker("queue", "peek", "later", "--state", "delayed", "-o", "jsonl").rows
    assert [one["id"] for one in waiting] == [second, first]
    assert logbroker("queue", "retry", "later", second).code == 0
    assert logbroker("queue", "receive", "later", "--wait", "5s", "--format", "%v").out == "b"
    some = logbroker("queue", "retry", "later", "nonsense", first)
    assert some.code == 3
    assert "error[MESSAGE_NOT_FOUND]" in some.err
    assert logbroker("queue", "retry", "later", "nonsense").code == 4
    assert logbroker("queue", "send", "later", "--delay", "soon", stdin=b"x").code == 2
    assert logbroker("queue", "send", "later", "--delay", "1s", "--at", "2030-01-01", stdin=b"x").code == 2


def test_a_message_with_a_deduplication_id_is_sent_once(logbroker: CommandLine) -> None:
    logbroker("queue", "create", "once")
    line = ("queue", "send", "once", "--input", "raw", "--dedup-id", "mine", "-o", "json")
    answers = [logbroker(*line, stdin=b"x").json[0] for _ in range(2)]
    assert [one["duplicate"] for one in answers] == [False, True]
    assert answers[0]["id"] == answers[1]["id"]
    assert logbroker("queue", "send", "once", "--dedup-id", "mine", stdin=b"x").code == 2


def test_a_full_queue_refuses(logbroker: CommandLine) -> None:
    fill(logbroker, "full", "a", "b", settings=("max_size=2",))
    refused = logbroker("queue", "send", "full", stdin=b"c")
    assert (refused.code, refused.err.startswith("error[QUEUE_FULL]: ")) == (1, True)
    logbroker("queue", "receive", "full", "--ack")
    partly = logbroker("queue", "send", "full", stdin=b"c\nd")
    assert partly.code in (1, 3)
    assert "error[QUEUE_FULL]: " in partly.err


# -- dead letters ------------------------------------------------------------------------------------------------------


def test_dlq_shows_letters_and_groups_their_errors(logbroker: CommandLine) -> None:
    ids = bury(logbroker, "dead", "no such user\nat line 7", "no such user\nat line 9", "timeout")
    shown = golden(logbroker("dlq", "ls", "dead").out)
    assert shown == (
        "ID SENT REASON FAILURES ERROR KEY VALUE\n"
        "ID-0-s0 TIME rejected 1 no such user k value 0\n"
        "ID-0-s1 TIME rejected 1 no such user k value 1\n"
        "ID-0-s2 TIME rejected 1 timeout k value 2\n"
    )
    assert golden(logbroker("dlq", "errors", "dead").out) == (
        "COUNT REASON ERROR LAST EXAMPLE\n2 rejected no such user TIME ID-0-s0\n1 rejected timeout TIME ID-0-s2\n"
    )
    assert "dead 3 10000\n" in golden(logbroker("dlq", "ls").out)
    assert [one["id"] for one in logbroker("dlq", "ls", "dead", "--error", "user", "-o", "json").json] == ids[:2]
    whole = golden(logbroker("dlq", "show", "dead", ids[0]).out)
    assert "last_error no such user\nat line 7\n" in whole
    assert whole.endswith("QUEUE REASON COUNT FIRST LAST\ndead rejected 1 TIME TIME\n")
    assert logbroker("dlq", "show", "dead", ids[0], "-o", "json").json["value"] == "value 0"


def test_exported_letters_can_be_sent_to_another_queue(logbroker: CommandLine) -> None:
    bury(logbroker, "out", "a", "b")
    logbroker("queue", "create", "in")
    exported = logbroker("dlq", "export", "out")
    assert [row["last_error"] for row in exported.rows] == ["a", "b"]
    assert logbroker("dlq", "export", "out", "-o", "json").json == exported.rows
    assert logbroker("queue", "send", "in", "--input", "jsonl", stdin=exported.out.encode()).code == 0
    assert logbroker("queue", "receive", "in", "-n", "2", "--format", "%k %v,").out == "k value 0,k value 1,"


def test_an_export_that_breaks_off_fails(logbroker: CommandLine) -> None:
    letter = json.dumps({"id": "1", "state": "dead", "value_b64": "eA=="}).encode() + b"\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer_half() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)  # is it a queue?
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
                connection.recv(65_536)
                connection.sendall(head + b"%x\r\n%b\r\n" % (len(letter), letter))

        thread = threading.Thread(target=answer_half)
        thread.start()
        logbroker.url = f"http://127.0.0.1:{server.getsockname()[1]}"
        broken = logbroker("dlq", "export", "half")
        thread.join()
    assert (broken.code, len(broken.rows)) == (7, 1)
    assert broken.err.startswith("error[UNREACHABLE]: ")


def test_a_client_that_has_read_a_part_of_an_export_can_go_on(logbroker: CommandLine) -> None:
    bury(logbroker, "part", *["x" * 2_000] * 900)
    with HttpClient(logbroker.url) as client:
        assert client.get(path("queues", "part"))["name"] == "part"
        lines = client.lines(path("queues", "part", "messages"), {"state": "dead"})
        assert next(lines)["state"] == "dead"
        lines.close()
        assert client.get(path("queues", "part"))["counts"]["dead"] == 900


def test_a_redrive_is_a_plan_until_execute(logbroker: CommandLine) -> None:
    bury(logbroker, "back", "no such user", "timeout", "timeout")
    plan = logbroker("dlq", "redrive", "back", "--error", "timeout")
    assert golden(plan.out) == (
        "ID SENT REASON FAILURES ERROR KEY VALUE\n"
        "ID-0-s1 TIME rejected 1 timeout k value 1\n"
        "ID-0-s2 TIME rejected 1 timeout k value 2\n"
    )
    assert plan.err == "nothing was changed: 2 would be sent back; --execute carries it out\n"
    assert counts(logbroker, "back")["dead"] == 3
    done = logbroker("queue", "redrive", "back", "--error", "timeout", "--max", "1", "--rate", "1000", "--execute")
    assert (done.code, done.err) == (0, "")
    assert re.sub(r"op-\w+", "OP", golden(done.out)) == (
        "ID KIND STATE MATCHED DONE FAILED ERROR\nOP redrive done 1 1 0 -\n"
    )
    assert logbroker("queue", "receive", "back", "-n", "9", "--wait", "5s", "--format", "%v").out == "value 1"
    assert logbroker("dlq", "redrive", "back", "-o", "json").json["matched"] == 2


def test_a_letter_is_edited_and_sent_back(logbroker: CommandLine) -> None:
    first, second = bury(logbroker, "edited", "typo", "typo")
    assert logbroker("dlq", "redrive", "edited", "--file", "-", "--execute", stdin=b"x").code == 2
    assert logbroker("dlq", "redrive", "edited", first, second, "--file", "-", "--execute", stdin=b"x").code == 2
    assert logbroker("dlq", "redrive", "edited", first, "--error", "typo").code == 2
    assert logbroker("dlq", "redrive", "edited", first, "--file", "-", "--execute", stdin=b"right").code == 0
    assert logbroker("queue", "receive", "edited", "--wait", "5s", "--format", "%k %v").out == "k right"


def test_a_redrive_that_is_interrupted_stops_and_can_be_gone_on_with(
    logbroker: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    bury(logbroker, "slow", *["late"] * 900)

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(time, "sleep", interrupt)
        stopped = logbroker("dlq", "redrive", "slow", "--rate", "0.001", "--execute")
    assert stopped.code == 130
    found = re.fullmatch(r"stopped, what is done stays done; go on with --go-on (op-\w+)\n", stopped.err)
    assert found is not None
    with HttpClient(logbroker.url) as client:
        assert client.get(path("operations", found[1]))["state"] == "cancelled"
        with monkeypatch.context() as patched:
            patched.setattr(time, "sleep", interrupt)
            assert logbroker("dlq", "redrive", "slow", "--go-on", found[1]).code == 130
    assert counts(logbroker, "slow")["dead"] >= 1


def test_a_discard_shows_how_many_and_demands_yes(logbroker: CommandLine) -> None:
    ids = bury(logbroker, "thrown", "a", "b", "b")
    asked = logbroker("dlq", "discard", "thrown", "--error", "b")
    assert asked.code == 2
    assert "This drops 2 dead letters of queue 'thrown' for good." in asked.err
    assert counts(logbroker, "thrown")["dead"] == 3
    done = logbroker("dlq", "discard", "thrown", "--error", "b", "-y", "-o", "json")
    assert (done.code, done.json["done"]) == (0, 2)
    assert [row["id"] for row in logbroker("dlq", "export", "thrown").rows] == ids[:1]
    assert logbroker("dlq", "discard", "thrown", ids[0], "-y").code == 0
    assert counts(logbroker, "thrown")["dead"] == 0


def test_the_filter_takes_keys_and_headers(logbroker: CommandLine) -> None:
    logbroker("queue", "create", "sorted")
    lines = [{"key": key, "value": key, "headers": [["from", place]]} for key, place in (("a", "x"), ("b", "y"))]
    logbroker("queue", "send", "sorted", "--input", "jsonl", stdin="\n".join(map(json.dumps, lines)).encode())
    assert [row["key"] for row in logbroker("queue", "peek", "sorted", "-k", "b", "-o", "jsonl").rows] == ["b"]
    assert [row["key"] for row in logbroker("queue", "peek", "sorted", "-H", "from:x", "-o", "jsonl").rows] == ["a"]
    assert logbroker("dlq", "redrive", "sorted", "-H", "from:x", "-k", "a", "--reason", "rejected").code == 0


def test_messages_are_found_by_an_expression(logbroker: CommandLine) -> None:
    bury(logbroker, "sought", "a", "b")
    assert [row["last_error"] for row in logbroker("dlq", "export", "sought", "--filter", 'error == "b"').rows] == ["b"]
    planned = logbroker("dlq", "redrive", "sought", "--filter", 'error == "b" && key == "k"', "-o", "json")
    assert (planned.code, planned.json["matched"]) == (0, 1)
    assert logbroker("dlq", "redrive", "sought", "--filter", 'error == "b"', "--execute").code == 0
    assert logbroker("queue", "peek", "sought", "--filter", 'value == "value 1"', "-o", "jsonl").rows
    assert logbroker("dlq", "redrive", "sought", "--filter", "true", "--key", "k").code == 2
    assert "error[FILTER_INVALID]" in logbroker("dlq", "ls", "sought", "--filter", "nix").err
