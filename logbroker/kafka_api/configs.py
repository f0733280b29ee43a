"""DescribeConfigs, v1 to v4, AlterConfigs, v0 to v2, and IncrementalAlterConfigs, v0 to v1, for topics and the broker.

Intended deviations: other kinds of resources (loggers, client metrics, groups) do not exist; the broker under its id and
the cluster-wide default (empty name) are the same, as there is one broker; a broker setting that cannot change while the
broker runs is shown as read-only. AlterConfigs replaces everything that was set, as in Kafka.

What lives here: translation and the four operations. What may not: rules about settings (``config``, ``broker.settings``).
Invariant: each resource succeeds or fails alone, and whole.
"""

from collections.abc import Mapping
from typing import Any, Final

from logbroker.broker.services import Services
from logbroker.broker.settings import DYNAMIC
from logbroker.config import BROKER_SETTINGS, TOPIC_SETTINGS, BrokerConfig, TopicConfig
from logbroker.engine.api import TopicInfo
from logbroker.errors import InvalidConfig, LogbrokerError
from logbroker.kafka_api.answers import Context
from logbroker.kafka_api.config_names import (
    BROKER_NAMES,
    FIXED_TOPIC_SETTINGS,
    STRING,
    TOPIC_DEFAULT_NAMES,
    broker_setting,
    overrides_from_kafka,
    text_of,
    type_of,
)
from logbroker.kafka_api.errors import Refused, code_of, message_of
from logbroker.wire.codes import ErrorCode

TOPIC, BROKER = 2, 4
"""Resource types."""
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3
"""Operations of IncrementalAlterConfigs."""
TOPIC_SOURCE, DYNAMIC_BROKER_SOURCE, CLUSTER_WIDE_SOURCE, STATIC_BROKER_SOURCE, DEFAULT_SOURCE = 1, 2, 3, 4, 5
"""Where a value comes from."""
_DEFAULTS: Final = TopicConfig()
_BROKER_DEFAULTS: Final = BrokerConfig()

Entry = dict[str, Any]


# -- describing ------------------------------------------------------------------------------------------------------


def topic_entries(info: TopicInfo) -> list[Entry]:
    """Every setting of a topic as it is in force."""
    entries = [_topic_entry(info, name) for name in TOPIC_SETTINGS]
    fixed = [_entry(name, value, DEFAULT_SOURCE, read_only=True) for name, value in FIXED_TOPIC_SETTINGS.items()]
    return sorted(entries + fixed, key=lambda entry: str(entry["name"]))


def _topic_entry(info: TopicInfo, name: str) -> Entry:
    setting = TOPIC_SETTINGS[name]
    value, default = getattr(info.config, name), getattr(_DEFAULTS, name)
    synonyms = [(setting.kafka_name, value, TOPIC_SOURCE)] if name in info.overrides else []
    if name not in info.overrides and value != default:
        synonyms.append((TOPIC_DEFAULT_NAMES.get(name, setting.kafka_name), value, STATIC_BROKER_SOURCE))
    synonyms.append((TOPIC_DEFAULT_NAMES.get(name, setting.kafka_name), default, DEFAULT_SOURCE))
    entry = _entry(setting.kafka_name, value, synonyms[0][2], read_only=False)
    return {**entry, "config_type": type_of(setting), "documentation": setting.doc, "synonyms": _synonyms(synonyms)}


def _entry(name: str, value: object, source: int, *, read_only: bool) -> Entry:
    return {
        "name": name,
        "value": text_of(value),
        "read_only": read_only,
        "config_source": source,
        "config_type": STRING,
        "documentation": None,
        "synonyms": (),
    }


def _synonyms(synonyms: list[tuple[str, Any, int]]) -> list[Entry]:
    return [{"name": name, "value": text_of(value), "source": source} for name, value, source in synonyms]


def broker_entries(services: Services, context: Context) -> list[Entry]:
    """Every setting of the broker as it is in force, the defaults of topics, and what tools look for on one node."""
    entries = [_broker_entry(services, name) for name in BROKER_SETTINGS if name not in ("kafka", "kafka_advertised")]
    entries += [_topic_default_entry(services, name) for name in TOPIC_DEFAULT_NAMES]
    node = context.node
    listener = f"PLAINTEXT://{services.facts.listeners.get('kafka', '')}"
    facts = {
        "advertised.listeners": f"PLAINTEXT://{node.host}:{node.port}",
        "listeners": listener,
        "broker.id": node.node_id,
        "default.replication.factor": 1,
        "min.insync.replicas": 1,
        "offsets.topic.replication.factor": 1,
        "delete.topic.enable": True,
    }
    entries += [_entry(name, value, STATIC_BROKER_SOURCE, read_only=True) for name, value in facts.items()]
    return sorted(entries, key=lambda entry: str(entry["name"]))


def _broker_entry(services: Services, name: str) -> Entry:
    setting, kafka_name, settings = BROKER_SETTINGS[name], BROKER_NAMES[name], services.settings
    started, default = getattr(settings.started, name), getattr(_BROKER_DEFAULTS, name)
    synonyms = [(kafka_name, settings.overrides[name], DYNAMIC_BROKER_SOURCE)] if name in settings.overrides else []
    if started != default:
        synonyms.append((kafka_name, started, STATIC_BROKER_SOURCE))
    synonyms.append((kafka_name, default, DEFAULT_SOURCE))
    entry = _entry(kafka_name, getattr(settings.broker, name), synonyms[0][2], read_only=name not in DYNAMIC)
    return {**entry, "config_type": type_of(setting), "documentation": setting.doc, "synonyms": _synonyms(synonyms)}


def _cluster_wide_entries(services: Services) -> list[Entry]:
    """What was changed on the broker, as the default of all brokers, which Kafka describes without anything else."""
    changed = [_broker_entry(services, name) for name in services.settings.overrides]
    return [{**entry, "config_source": CLUSTER_WIDE_SOURCE, "synonyms": ()} for entry in changed]


def _topic_default_entry(services: Services, name: str) -> Entry:
    setting, kafka_name = TOPIC_SETTINGS[name], TOPIC_DEFAULT_NAMES[name]
    value, default = getattr(services.topic_defaults, name), getattr(_DEFAULTS, name)
    source = DEFAULT_SOURCE if value == default else STATIC_BROKER_SOURCE
    entry = _entry(kafka_name, value, source, read_only=True)
    return {**entry, "config_type": type_of(setting), "documentation": setting.doc}


def describe_configs(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve DescribeConfigs."""
    return {"results": [_described(services, resource, request, context) for resource in request.resources]}


def _described(services: Services, resource: Any, request: Any, context: Context) -> dict[str, Any]:
    result = _result(resource)
    try:
        if resource.resource_type == TOPIC:
            entries = topic_entries(services.topics.get(resource.resource_name))
        else:
            _check_broker(resource, context)
            entries = broker_entries(services, context) if resource.resource_name else _cluster_wide_entries(services)
    except LogbrokerError as error:
        return {**result, "error_code": code_of(error), "error_message": message_of(error)}
    keys = resource.configuration_keys
    wanted = [entry for entry in entries if keys is None or entry["name"] in keys]
    return {**result, "configs": [_shown(entry, request) for entry in wanted]}


def _shown(entry: Entry, request: Any) -> Entry:
    """An entry without what was not asked for."""
    hidden: Entry = {}
    if not request.include_synonyms:
        hidden["synonyms"] = ()
    if not request.include_documentation:
        hidden["documentation"] = None
    return {**entry, **hidden}


# -- altering --------------------------------------------------------------------------------------------------------


async def alter_configs(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve AlterConfigs."""
    responses = []
    for resource in request.resources:
        values = {entry.name: entry.value for entry in resource.configs}
        responses.append(await _altered(services, resource, context, _Replacement(values), request.validate_only))
    return {"responses": responses}


async def incremental_alter_configs(services: Services, request: Any, context: Context) -> dict[str, Any]:
    """Serve IncrementalAlterConfigs."""
    responses = []
    for resource in request.resources:
        edits = _Edits([(entry.name, entry.config_operation, entry.value) for entry in resource.configs])
        responses.append(await _altered(services, resource, context, edits, request.validate_only))
    return {"responses": responses}


class _Replacement:
    """New values for some settings; all others that were set are unset."""

    def __init__(self, values: Mapping[str, str | None]) -> None:
        self._values = values

    def topic_changes(self, info: TopicInfo) -> dict[str, Any]:
        return {**dict.fromkeys(info.overrides), **overrides_from_kafka(self._values)}

    def broker_changes(self, services: Services) -> dict[str, Any]:
        given = {broker_setting(name): value for name, value in self._values.items()}
        return {**dict.fromkeys(services.settings.overrides), **given}


class _Edits:
    """Operations on single settings."""

    def __init__(self, edits: list[tuple[str, int, str | None]]) -> None:
        self._edits = edits

    def topic_changes(self, info: TopicInfo) -> dict[str, Any]:
        return overrides_from_kafka(self._values())

    def broker_changes(self, services: Services) -> dict[str, Any]:
        return {broker_setting(name): value for name, value in self._values().items()}

    def _values(self) -> dict[str, str | None]:
        if len({name for name, _, _ in self._edits}) < len(self._edits):
            raise Refused(ErrorCode.INVALID_REQUEST, "a setting is named more than once")
        return {name: _edited(name, operation, value) for name, operation, value in self._edits}


def _edited(name: str, operation: int, value: str | None) -> str | None:
    """The new value of a setting, None to unset it."""
    if operation == DELETE:
        return None
    if operation in (APPEND, SUBTRACT):
        raise InvalidConfig(f"{name} is not a list that can be added to or taken from", setting=name)
    if operation != SET:
        raise Refused(ErrorCode.INVALID_REQUEST, f"there is no operation {operation}")
    if value is None:
        raise InvalidConfig(f"{name} needs a value", setting=name)
    return value


async def _altered(
    services: Services, resource: Any, context: Context, changes: "_Replacement | _Edits", validate_only: bool
) -> dict[str, Any]:
    result = _result(resource)
    try:
        if resource.resource_type == TOPIC:
            info = services.topics.changeable(resource.resource_name)
            await services.topics.alter(info.name, None, changes.topic_changes(info), check_only=validate_only)
        else:
            _check_broker(resource, context)
            await services.settings.change(changes.broker_changes(services), check_only=validate_only)
    except LogbrokerError as error:
        return {**result, "error_code": code_of(error), "error_message": message_of(error)}
    return result


def _check_broker(resource: Any, context: Context) -> None:
    if resource.resource_type != BROKER:
        raise Refused(ErrorCode.INVALID_REQUEST, f"resources of type {resource.resource_type} have no settings here")
    if resource.resource_name not in ("", str(context.node.node_id)):
        raise Refused(
            ErrorCode.INVALID_REQUEST, f"there is no broker {resource.resource_name!r}, only {context.node.node_id}"
        )


def _result(resource: Any) -> dict[str, Any]:
    return {"error_message": None, "resource_type": resource.resource_type, "resource_name": resource.resource_name}


def refuse_describe(request: Any, code: ErrorCode, message: str) -> dict[str, Any]:
    """Say of every resource that it failed."""
    return {"results": [{**_result(one), "error_code": code, "error_message": message} for one in request.resources]}


def refuse_alter(request: Any, code: ErrorCode, message: str) -> dict[str, Any]:
    """Say of every resource that it failed."""
    return {"responses": [{**_result(one), "error_code": code, "error_message": message} for one in request.resources]}
