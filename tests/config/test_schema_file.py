"""``config/logbroker.toml`` explains every setting and cannot drift from the declarations."""

import re
import tomllib
from pathlib import Path

from logbroker.cli import settings
from logbroker.cli.configuration import schema_text
from logbroker.config import BROKER_SETTINGS, TOPIC_SETTINGS, BrokerConfig, TopicConfig

FILE = Path(__file__).parents[2] / "config" / "logbroker.toml"


def test_the_committed_file_is_what_the_declarations_say() -> None:
    assert FILE.read_text() == schema_text(), "run: logbroker config schema > config/logbroker.toml"


def test_the_file_as_it_stands_sets_nothing() -> None:
    assert tomllib.loads(FILE.read_text()) == {"topics": {}}


def test_with_every_line_taken_in_it_says_the_defaults(tmp_path: Path) -> None:
    taken_in = tmp_path / "all.toml"
    taken_in.write_text(re.sub(r"^# (\w+ = )", r"\1", FILE.read_text(), flags=re.MULTILINE))
    document = tomllib.loads(taken_in.read_text())
    assert document.pop("topics").keys() == TOPIC_SETTINGS.keys()
    assert document.keys() == BROKER_SETTINGS.keys()
    effective = settings.load({}, {}, taken_in)
    assert (effective.broker, effective.topics) == (BrokerConfig(), TopicConfig())
