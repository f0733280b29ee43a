"""Where settings come from: flag, then LOGBROKER_*, then the file, then the default; the source of each is kept.

What lives here: the only reader of the configuration file and of the environment. What may not: declarations, which are in
``logbroker/config.py``, and the meaning of any setting.
Invariant: every setting of the effective configuration names exactly one source.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logbroker.config import BROKER_SETTINGS, TOPIC_SETTINGS, BrokerConfig, TopicConfig, configured
from logbroker.errors import InvalidConfig

ENVIRONMENT_PREFIX = "LOGBROKER_"
CONFIG_FILE_VARIABLE = "LOGBROKER_CONFIG"
URL_VARIABLE = "LOGBROKER_URL"
OUTPUT_VARIABLE = "LOGBROKER_OUTPUT"
DEFAULT_URL = "http://127.0.0.1:8080"
TOPICS_TABLE = "topics"
DEFAULT_SOURCE = "default"


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective configuration. ``sources`` says for each setting by name where its value came from."""

    broker: BrokerConfig
    topics: TopicConfig
    sources: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Layer:
    """The values of one source; broker and topic settings share one name space, so one mapping holds both."""

    values: Mapping[str, object]
    source: Mapping[str, str]


def load(flags: Mapping[str, object], environ: Mapping[str, str], config_file: Path | None = None) -> Settings:
    """The effective settings; ``flags`` holds those given on the command line, by the name of the setting.

    Raises InvalidConfig, naming the source of a bad value, and for a file that cannot be read.
    """
    if config_file is None and environ.get(CONFIG_FILE_VARIABLE):
        config_file = Path(environ[CONFIG_FILE_VARIABLE])
    layers = [_from_environment(environ), _from_flags(flags)]
    if config_file is not None:
        layers.insert(0, _from_file(config_file))
    broker, topics = BrokerConfig(), TopicConfig()
    sources = dict.fromkeys([*BROKER_SETTINGS, *TOPIC_SETTINGS], DEFAULT_SOURCE)
    for layer in layers:
        for name, value in layer.values.items():
            source = layer.source[name]
            broker, topics = _set(broker, topics, name, value, source)
            sources[name] = source
    return Settings(broker, topics, sources)


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """LOGBROKER_* variables that are no setting. They are not refused: Kubernetes makes such for a service of that name."""
    known = {variable(name) for name in [*BROKER_SETTINGS, *TOPIC_SETTINGS]}
    known |= {CONFIG_FILE_VARIABLE, URL_VARIABLE, OUTPUT_VARIABLE}
    return sorted(name for name in environ if name.startswith(ENVIRONMENT_PREFIX) and name not in known)


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return ENVIRONMENT_PREFIX + name.upper()


def _set(
    broker: BrokerConfig, topics: TopicConfig, name: str, value: object, source: str
) -> tuple[BrokerConfig, TopicConfig]:
    try:
        if name in TOPIC_SETTINGS:
            return broker, configured(topics, {name: value})
        return configured(broker, {name: value}), topics
    except InvalidConfig as error:
        raise InvalidConfig(f"{source}: {error.detail}", **error.fields) from None


def _from_flags(flags: Mapping[str, object]) -> _Layer:
    return _Layer(flags, {name: f"flag --{name.replace('_', '-')}" for name in flags})


def _from_environment(environ: Mapping[str, str]) -> _Layer:
    given = {name: environ[variable(name)] for name in [*BROKER_SETTINGS, *TOPIC_SETTINGS] if variable(name) in environ}
    return _Layer(given, {name: variable(name) for name in given})


def _from_file(path: Path) -> _Layer:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidConfig(f"{path}: the configuration file cannot be read: {error}") from None
    topics = document.pop(TOPICS_TABLE, {})
    if not isinstance(topics, dict):
        raise InvalidConfig(f"{path}: {TOPICS_TABLE!r} must be a table, written [{TOPICS_TABLE}]")
    _refuse_strangers(path, document, BROKER_SETTINGS, "at the top")
    _refuse_strangers(path, topics, TOPIC_SETTINGS, f"in [{TOPICS_TABLE}]")
    values = {name: _from_toml(value) for name, value in {**document, **topics}.items()}
    return _Layer(values, {name: str(path) for name in values})


def _refuse_strangers(path: Path, given: Mapping[str, object], declared: Mapping[str, Any], where: str) -> None:
    for name in given:
        if name not in declared:
            raise InvalidConfig(
                f"{path}: there is no setting {name!r} {where}; there are: {', '.join(declared)}", setting=name
            )


def _from_toml(value: object) -> object:
    """TOML has arrays where a setting is a tuple."""
    return tuple(value) if isinstance(value, list) else value
