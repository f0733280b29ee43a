"""The pytest plugin as a user of it sees it: their tests, in a pytest of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
ON = ("-p", "logbroker.testing.plugin", "-p", "no:cacheprovider", "-p", "no:asyncio")


@pytest.fixture
def pytester(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini("[pytest]\naddopts = -p no:logbroker\n")
    return pytester


def passes(pytester: pytest.Pytester, test: str, *options: str, passed: int = 1) -> None:
    pytester.makepyfile(test)
    pytester.runpytest_inprocess(*ON, *options).assert_outcomes(passed=passed)


def test_the_example_of_the_readme_passes(pytester: pytest.Pytester) -> None:
    [example] = [block for block in README.split("```python\n")[1:] if "def test_" in block]
    passes(pytester, example.partition("```")[0])


def test_a_test_sends_moves_the_clock_and_looks_what_became_of_it(pytester: pytest.Pytester) -> None:
    passes(
        pytester,
        """
        import asyncio

        def test_a_reminder_is_delivered_after_a_day(logbroker):
            async def use():
                async with logbroker.connect() as lb:
                    await lb.queues.create("reminders")
                    await lb.queue("reminders").send({"to": "a@b"}, delay="1d")
                    await asyncio.to_thread(logbroker.advance, "23h59m")
                    async with lb.queue("reminders").receive() as received:
                        assert len(received) == 0
                    await asyncio.to_thread(logbroker.advance, "1m")
                    async with lb.queue("reminders").receive() as received:
                        assert received[0].json() == {"to": "a@b"}
            asyncio.run(use())
            logbroker.drain("reminders")
        """,
    )


def test_a_kafka_client_finds_a_broker_that_is_the_tests_own(pytester: pytest.Pytester) -> None:
    passes(
        pytester,
        """
        import pytest
        from confluent_kafka import Producer

        @pytest.mark.parametrize("number", [1, 2])
        def test_an_order_is_published(logbroker_server, number):
            producer = Producer({"bootstrap.servers": logbroker_server.kafka})
            producer.produce("orders", b'{"id": %d}' % number, b"key")
            assert producer.flush(10) == 0
            logbroker_server.assert_sent("orders", match={"id": number}, key="key", count=1)
        """,
        passed=2,
    )


def test_as_many_brokers_as_wanted_with_settings_of_their_own(pytester: pytest.Pytester) -> None:
    passes(
        pytester,
        """
        def test_two(make_logbroker, logbroker_clock):
            one, other = make_logbroker(clock=logbroker_clock), make_logbroker(kafka="off")
            assert one.http_url != other.http_url
            assert "kafka" not in other.broker.listeners
        """,
    )


def test_the_clock_of_a_test_is_the_clock_of_its_broker(pytester: pytest.Pytester) -> None:
    passes(
        pytester,
        """
        def test_clock(logbroker, logbroker_clock):
            before = logbroker_clock.now()
            logbroker.advance("15m")
            assert logbroker_clock.now().wall_ms - before.wall_ms == 15 * 60 * 1000
            assert logbroker.clock is logbroker_clock
        """,
    )


def test_the_data_of_a_test_can_be_kept(pytester: pytest.Pytester, tmp_path: Path) -> None:
    passes(
        pytester,
        """
        def test_kept(logbroker, tmp_path):
            assert (tmp_path / "logbroker-0").is_dir()
        """,
        "--logbroker-keep",
    )


def test_loading_the_plugin_imports_neither_the_broker_nor_aiohttp() -> None:
    program = (
        "import sys; import logbroker.testing.plugin;"
        "heavy = ('aiohttp', 'asyncio', 'logbroker.node', 'logbroker.client', 'msgspec');"
        "print([name for name in heavy if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.strip() in ("[]", "['asyncio']")  # pytest itself may have asked for asyncio


def test_the_plugin_is_found_where_logbroker_is_installed() -> None:
    from importlib.metadata import entry_points

    found = {entry.value for entry in entry_points(group="pytest11")}
    assert "logbroker.testing.plugin" in found
