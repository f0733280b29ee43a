"""Kafka's message definitions (the JSON files of KIP-482's generator), as the schema package ships them.

What lives here: finding a definition by name and reading it into a tree of fields. What may not: bytes on the wire.
Invariant: a `Definition` says everything about a message in every version; codecs derive from it alone.

The files come from kafka-python, as data: importing the package would load a whole Kafka client (about 100 ms and 20 MB)
to get at them, so they are read from where it is installed. What it lacks is in ``messages``, written from the KIPs.
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

from logbroker.wire.primitives import NO_UUID

_OURS: Final = Path(__file__).with_name("messages")
_COMMENT: Final = re.compile(r"^\s*//.*$", re.MULTILINE)
_WORD_START: Final = re.compile(r"(?<!^)(?=[A-Z])")
_INTEGERS: Final = frozenset(("int8", "int16", "uint16", "int32", "uint32", "int64"))


class VersionRange(NamedTuple):
    """Versions from ``first`` to ``last``, both included; empty where ``first`` is larger."""

    first: int
    last: int

    def covers(self, version: int) -> bool:
        """Whether the version lies inside."""
        return self.first <= version <= self.last


@dataclass(frozen=True, slots=True)
class Field:
    """One field: ``type`` is a primitive of the protocol, or None for a struct of ``fields``; either may be an array.

    ``name`` is in snake case. ``default`` is what an absent field means, in the types the codecs use.
    """

    name: str
    type: str | None
    is_array: bool
    versions: VersionRange
    nullable: VersionRange
    tagged: VersionRange
    tag: int
    default: Any
    fields: tuple["Field", ...]


@dataclass(frozen=True, slots=True)
class Definition:
    """One message in all its versions."""

    name: str
    versions: VersionRange
    flexible: VersionRange
    fields: tuple[Field, ...]


@cache
def load_definition(name: str) -> Definition:
    """The definition of, say, ``MetadataRequest``. Raises FileNotFoundError if there is none."""
    ours = _OURS / f"{name}.json"
    path = ours if ours.exists() else _directory() / ours.name
    source = json.loads(_COMMENT.sub("", path.read_text("utf-8")))
    shared = {struct["name"]: struct["fields"] for struct in source.get("commonStructs", ())}
    return Definition(
        name,
        _versions(source["validVersions"]),
        _versions(source["flexibleVersions"]),
        _fields(source["fields"], shared),
    )


@cache
def _directory() -> Path:
    spec = find_spec("kafka")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the package kafka-python is not installed: it brings Kafka's message definitions")
    return Path(spec.submodule_search_locations[0], "protocol", "schemas", "resources")


def _versions(text: str | None) -> VersionRange:
    """``3``, ``3-5``, ``3+`` or ``none``."""
    if text is None or text == "none":
        return VersionRange(1, 0)
    first, separator, last = text.removesuffix("+").partition("-")
    if text.endswith("+"):
        return VersionRange(int(first), 0x7FFF)
    return VersionRange(int(first), int(last) if separator else int(first))


def _fields(sources: list[dict[str, Any]], shared: dict[str, list[dict[str, Any]]]) -> tuple[Field, ...]:
    return tuple(_field(source, shared) for source in sources)


def _field(source: dict[str, Any], shared: dict[str, list[dict[str, Any]]]) -> Field:
    type_name: str = source["type"].removeprefix("[]")
    is_array = source["type"] != type_name
    is_struct = type_name[0].isupper()
    return Field(
        name=_WORD_START.sub("_", source["name"]).lower(),
        type=None if is_struct else type_name,
        is_array=is_array,
        versions=_versions(source["versions"]),
        nullable=_versions(source.get("nullableVersions")),
        tagged=_versions(source.get("taggedVersions")),
        tag=source.get("tag", -1),
        default=_default(type_name, is_array, is_struct, str(source.get("default", ""))),
        fields=_fields(source.get("fields") or shared[type_name], shared) if is_struct else (),
    )


def _default(
    type_name: str, is_array: bool, is_struct: bool, text: str
) -> bool | int | float | str | bytes | UUID | tuple[()] | None:
    if is_array:
        return None if text == "null" else ()
    if is_struct or text == "null":
        return None
    if type_name == "bool":
        return text.lower() == "true"
    if type_name in _INTEGERS:
        return int(text or "0", 0)
    if type_name == "float64":
        return float(text or 0)
    if type_name == "uuid":
        return NO_UUID
    return text if type_name == "string" else b""
