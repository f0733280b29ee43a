"""Where settings come from, and what happens to bad ones."""

from pathlib import Path

import pytest

from logbroker.cli import settings
from logbroker.config import BROKER_SETTINGS, TOPIC_SETTINGS
from logbroker.errors import InvalidConfig


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    file = tmp_path / "logbroker.toml"
    file.write_text(
        'http = "127.0.0.1:1001"\nnum_partitions = 3\nallow_host = ["a.example", "b.example"]\n'
        '[topics]\nretention_ms = -1\ndurability = "os"\n'
    )
    return file


def test_without_anything_every_value_is_the_default() -> None:
    effective = settings.load({}, {})
    assert effective.broker.http == "127.0.0.1:8080"
    assert effective.topics.durability == "fsync"
    assert set(effective.sources) == {*BROKER_SETTINGS, *TOPIC_SETTINGS}
    assert set(effective.sources.values()) == {"default"}


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(config_file: Path) -> None:
    environ = {"LOGBROKER_HTTP": "127.0.0.1:1002", "LOGBROKER_NUM_PARTITIONS": "5"}
    effective = settings.load({"http": "127.0.0.1:1003"}, environ, config_file)
    assert effective.broker.http == "127.0.0.1:1003"
    assert effective.broker.num_partitions == 5
    assert effective.broker.allow_host == ("a.example", "b.example")
    assert effective.broker.drain_ms == 10_000
    sources = {name: effective.sources[name] for name in ("http", "num_partitions", "allow_host", "drain_ms")}
    assert sources == {
        "http": "flag --http",
        "num_partitions": "LOGBROKER_NUM_PARTITIONS",
        "allow_host": str(config_file),
        "drain_ms": "default",
    }


def test_settings_of_topics_have_flags_variables_and_a_table_too(config_file: Path) -> None:
    assert settings.load({}, {}, config_file).topics.durability == "os"
    assert settings.load({}, {"LOGBROKER_DURABILITY": "interval"}, config_file).topics.durability == "interval"
    effective = settings.load({"durability": "fsync"}, {"LOGBROKER_DURABILITY": "interval"}, config_file)
    assert (effective.topics.durability, effective.topics.retention_ms) == ("fsync", -1)


def test_the_environment_can_name_the_file(config_file: Path) -> None:
    assert settings.load({}, {"LOGBROKER_CONFIG": str(config_file)}).broker.num_partitions == 3


def test_broker_and_topic_settings_share_one_name_space() -> None:
    assert not BROKER_SETTINGS.keys() & TOPIC_SETTINGS.keys()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("htpp = 1", "there is no setting 'htpp' at the top"),
        ("retention_ms = 1", "there is no setting 'retention_ms' at the top"),
        ("[topics]\nhttp = 1", "there is no setting 'http' in [topics]"),
        ("topics = 3", "'topics' must be a table"),
        ("num_partitions = 0", "num_partitions = 0 is not accepted: must be at least 1"),
        ("num_partitions = true", "must be of type whole number"),
        ("num_partitions = ", "cannot be read"),
        ("allow_host = [1]", "allow_host"),
    ],
)
def test_a_bad_file_is_refused_with_its_name(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(InvalidConfig) as caught:
        settings.load({}, {}, file)
    assert str(file) in caught.value.detail
    assert complaint in caught.value.detail


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"nowhere\.toml.*No such file"):
        settings.load({}, {}, tmp_path / "nowhere.toml")


def test_a_bad_value_names_its_source() -> None:
    with pytest.raises(InvalidConfig, match=r"^LOGBROKER_DRAIN_MS: drain_ms = 'soon'"):
        settings.load({}, {"LOGBROKER_DRAIN_MS": "soon"})
    with pytest.raises(InvalidConfig, match=r"^flag --durability: "):
        settings.load({"durability": "never"}, {})


def test_variables_that_are_no_settings_are_told_but_not_refused() -> None:
    environ = {
        "LOGBROKER_SERVICE_HOST": "10.0.0.1",
        "LOGBROKER_URL": "http://x",
        "LOGBROKER_HTTP": "127.0.0.1:0",
        "HOME": "/",
    }
    settings.load({}, environ)
    assert settings.unknown_variables(environ) == ["LOGBROKER_SERVICE_HOST"]
