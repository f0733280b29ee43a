"""Two codecs that are not ours, and random messages to exchange with them.

kafka-python encodes and decodes by field name, so with it values are compared; kio is a second opinion on every layout.
"""

import enum
import importlib
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from random import Random
from typing import Any, Literal
from uuid import UUID

from kio.schema.index import schema_name_map
from kio.serial import entity_reader
from kio.static.constants import EntityType

from logbroker.wire.apis import Api
from logbroker.wire.definitions import Field, load_definition
from logbroker.wire.primitives import NO_UUID

HOT = (Api.PRODUCE, Api.FETCH)
COLD_VERSIONS = [(api, version) for api in Api if api not in HOT for version in range(api.min_version, api.max_version + 1)]
_INT_BITS = {"int8": 8, "int16": 16, "uint16": 15, "int32": 32, "int64": 41}
_KAFKA_PYTHON_NAMES = {
    "topic_authorized_operations": "authorized_operations",
    "cluster_authorized_operations": "authorized_operations",
}


def ids(parameter: object) -> str | None:
    """Names for parametrized tests: ``metadata`` and ``v12`` rather than ``api7`` and ``12``."""
    return parameter.name.lower() if isinstance(parameter, Api) else f"v{parameter}"


# -- random messages -------------------------------------------------------------------------------------------------


def sample(message_name: str, version: int, random: Random) -> dict[str, Any]:
    """Every field that the version of the message has, at random."""
    return _sample_struct(load_definition(message_name).fields, version, random)


def _sample_struct(fields: Sequence[Field], version: int, random: Random) -> dict[str, Any]:
    return {field.name: _sample_field(field, version, random) for field in fields if field.versions.covers(version)}


def _sample_field(field: Field, version: int, random: Random) -> Any:
    if field.tagged.covers(version) and random.random() < 0.5:
        return field.default
    if field.nullable.covers(version) and random.random() < 0.2:
        return None
    if field.is_array:
        return tuple(_sample_one(field, version, random) for _ in range(random.choice((0, 1, 2, 3))))
    return _sample_one(field, version, random)


def _sample_one(field: Field, version: int, random: Random) -> Any:
    if field.type is None:
        return _sample_struct(field.fields, version, random)
    if field.name.endswith("error_code"):
        return random.randrange(100)
    if field.type in _INT_BITS:
        bits = _INT_BITS[field.type]
        return random.randrange(2**bits) - (2 ** (bits - 1) if bits <= 32 and field.type != "uint16" else 0)
    match field.type:
        case "bool":
            return random.random() < 0.5
        case "string":
            return "".join(random.choices("abc.-_Ωé漢", k=random.choice((0, 1, 5, 130))))
        case "bytes" | "records":
            return random.randbytes(random.choice((0, 3, 200)))
        case "uuid":
            return UUID(int=random.getrandbits(128))
    raise NotImplementedError(field.type)


# -- comparing -------------------------------------------------------------------------------------------------------


def plain(value: Any, message_name: str, version: int) -> dict[str, Any]:
    """A message of any of the codecs as plain dicts, lists and numbers, with the fields that the version has."""
    return _plain_struct(value, load_definition(message_name).fields, version)


def _plain_struct(value: Any, fields: Sequence[Field], version: int) -> dict[str, Any]:
    return {
        field.name: _plain_value(_get(value, field.name), field, version)
        for field in fields
        if field.versions.covers(version)
    }


def _get(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value[name]
    candidates = (name, _KAFKA_PYTHON_NAMES.get(name, ""), name.removesuffix("_ms"))  # kio has timedeltas for _ms
    return getattr(value, next(candidate for candidate in candidates if candidate and hasattr(value, candidate)))


def _plain_value(value: Any, field: Field, version: int) -> Any:
    if field.type == "uuid" and not field.is_array:
        return value or NO_UUID
    if value is None:  # some give None for the number that means absent
        return field.default if field.type in _INT_BITS and not field.is_array else None
    if isinstance(value, list | tuple) and field.is_array:
        return [_plain_struct(item, field.fields, version) if field.type is None else _plain_leaf(item) for item in value]
    return _plain_struct(value, field.fields, version) if field.type is None else _plain_leaf(value)


def _plain_leaf(value: Any) -> Any:
    match value:
        case enum.Enum():
            return value.value
        case set():  # kafka-python's bit fields
            number = sum(1 << bit for bit in value)
            return number - 2**32 if number >= 2**31 else number
        case timedelta():
            return value // timedelta(milliseconds=1)
        case datetime():
            return round(value.timestamp() * 1000)
        case memoryview() | bytearray():
            return bytes(value)
    return value


# -- kafka-python ----------------------------------------------------------------------------------------------------


@cache
def kafka_python_class(message_name: str) -> Any:
    """kafka-python's class of, say, ``HeartbeatRequest``."""
    for package in ("admin", "consumer", "metadata", "producer"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # its importlib.resources.read_text
            module = importlib.import_module(f"kafka.protocol.{package}")
        if hasattr(module, message_name):
            return getattr(module, message_name)
    return _class_from_our_definition(message_name)


def _class_from_our_definition(message_name: str) -> Any:
    """Kafka-python's codec for a message that it does not bring a definition of; kio then vouches for the definition."""
    from kafka.protocol.api_message import ApiMessage

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return type(ApiMessage)(message_name, (ApiMessage,), {}, load_json="logbroker.wire.messages")


def kafka_python_encode(message_name: str, version: int, values: Mapping[str, Any]) -> bytes:
    """The body as kafka-python writes it."""
    message_class = kafka_python_class(message_name)
    return bytes(_kafka_python_struct(message_class, load_definition(message_name).fields, version, values).encode())


def _kafka_python_struct(data_class: Any, fields: Sequence[Field], version: int, values: Mapping[str, Any]) -> Any:
    by_name = {field.name: field for field in fields}
    converted = {}
    for name, value in values.items():
        field = by_name[name]
        if field.type is None and value is not None:
            inner = data_class.fields[name].data_class
            value = (
                [_kafka_python_struct(inner, field.fields, version, item) for item in value]
                if field.is_array
                else _kafka_python_struct(inner, field.fields, version, value)
            )
        converted[name] = list(value) if isinstance(value, tuple) else value
    return data_class(version=version, **converted)


def kafka_python_decode(message_name: str, version: int, body: bytes) -> dict[str, Any]:
    """What kafka-python reads, as `plain` gives it."""
    return plain(kafka_python_class(message_name).decode(body, version=version), message_name, version)


# -- kio -------------------------------------------------------------------------------------------------------------


def kio_decode(api: Api, kind: Literal["Request", "Response"], version: int, body: bytes) -> tuple[dict[str, Any], int]:
    """What kio reads, as `plain` gives it, and how many bytes it took. Only for valid input: kio aborts on huge arrays."""
    paths = schema_name_map[api.name.lower()][version]
    path = paths[EntityType.request] if kind == "Request" else paths[EntityType.response]
    module_name, _, class_name = path.partition(":")
    entity = getattr(importlib.import_module(module_name), class_name)
    value, size = entity_reader(entity)(body, 0)
    return plain(value, f"{api.message_name}{kind}", version), size
