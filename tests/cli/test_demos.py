"""The demonstrations check themselves; here it is checked that they do."""

import pytest

from logbroker.cli.http_client import HttpClient, path
from tests.cli.conftest import CommandLine


def queues(logbroker: CommandLine) -> list[str]:
    with HttpClient(logbroker.url) as client:
        return [queue["name"] for queue in client.pages(path("queues"))]


def test_every_order_is_delivered_once_after_the_redrive(logbroker: CommandLine) -> None:
    ran = logbroker("demo", "orders", "--orders", "30", "-o", "json")
    assert ran.code == 0, ran
    told = ran.json
    assert (told["delivered"], told["delivered_twice"], told["dead_at_the_end"]) == (30, 0, 0)
    assert told["dead_while_the_bank_was_down"] == 6
    assert told["handler_calls"]["payments"] == 24 + 6 * 5 + 6
    assert queues(logbroker) == []


def test_the_order_pipeline_shows_its_dead_letters_by_error(logbroker: CommandLine) -> None:
    ran = logbroker("demo", "orders", "--orders", "10")
    assert ran.code == 0
    assert "BankDown: the bank of card 5 does not answer" in ran.out


def test_numbers_that_do_not_add_up_are_told(logbroker: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    from logbroker.cli.order_pipeline import Pipeline

    async def forget(pipeline: Pipeline, order: object) -> None: ...

    monkeypatch.setattr(Pipeline, "_notify", forget)
    ran = logbroker("demo", "orders", "--orders", "5", "-o", "json")
    assert (ran.code, ran.json["delivered"]) == (1, 0)
    assert "do not add up" in ran.err


def test_competing_workers_do_each_message_once_also_those_of_a_dead_one(logbroker: CommandLine) -> None:
    ran = logbroker("demo", "workers", "--messages", "300", "--workers", "3", "-o", "json")
    assert ran.code == 0, ran
    told = ran.json
    assert (told["done"], told["done_twice"], told["held_by_the_dead"]) == (300, 0, 5)
    processed = {row["consumer"]: row["processed"] for row in told["consumers"]}
    assert sum(processed.values()) == 300
    assert processed["worker 1"] > processed["worker 3"] > 0
    assert queues(logbroker) == []
