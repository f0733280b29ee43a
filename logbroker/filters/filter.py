"""A filter over records: what the variables of a record are, and the verdict.

What lives here: the variables (``key``, ``headers``, ``value``, ``timestamp``, ``offset``, ``partition``, ``topic``; on
dead letters ``error``, ``failures``, ``reason``), which of them an expression needs, and the bounds on what it may cost.
What may not: CEL itself (``cel``), reading, counting. Invariants: a filter is immutable and may be used from several
threads; a verdict depends on nothing but the record; no record makes ``verdict`` raise.

A loop (``all``, ``exists``, ...) goes round up to 10,000 times, and each round may read the whole record. So a *heavy*
filter looks at records of at most 32 KiB, and whoever asks it about many records does that in a thread.
"""

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from logbroker.config import INT64_MAX, KIB
from logbroker.errors import FilterInvalid
from logbroker.filters import cel
from logbroker.filters.cel import Verdict
from logbroker.model import Header, StoredRecord, TopicPartition

MAX_FILTER_BYTES: Final = 4 * KIB
MAX_VALUE_BYTES: Final = 1024 * KIB
"""A filter that reads ``value`` fails on larger ones: parsing them would hold the loop for longer than 10 ms."""
MAX_HEAVY_BYTES: Final = 32 * KIB
_MAX_LIGHT_SCANS = 8

_WORD = re.compile(r"[A-Za-z_]\w*")
_LOOP = re.compile(r"\.\s*(?:all|exists|exists_one|existsOne|map|filter)\s*\(|\bcel\b")
_SCAN = re.compile(r"\.\s*(?:matches|contains|startsWith|endsWith)\s*\(|\bmatches\s*\(|\+")
_FIELD = re.compile(r"""\bvalue\s*(?:\.\s*([A-Za-z_]\w*)(?!\w|\s*\()|\[\s*"([^"\\\n]*)"\s*\])""")
_NOT_FOR_CEL = re.compile(rb"\d{19}|\\u0000")
"""What the library cannot take in: whole numbers beyond 64 bits, and strings with a zero byte, which it would cut there."""
_HEADER_IS = re.compile(r"""headers(?:\.([A-Za-z_]\w*)|\["([^"\\\n]*)"\])\s*==\s*"([^"\\\n]*)\"""")

_decode_json = msgspec.json.Decoder().decode


class DeadLetterFacts(NamedTuple):
    """What a dead letter adds to a record: its last error, how often it failed, why it is dead."""

    error: str | None
    failures: int
    reason: str


Getter = Callable[[StoredRecord, TopicPartition, DeadLetterFacts | None], Any]


class Filter:
    """An expression, ready to be asked about records. Made by ``compile_filter`` alone."""

    __slots__ = ("_direct", "_fields", "_getters", "_max_bytes", "_program", "heavy", "text")

    def __init__(self, text: str, program: cel.Program) -> None:
        self.text = text
        self._program = program
        self.heavy = _LOOP.search(text) is not None or len(_SCAN.findall(text)) > _MAX_LIGHT_SCANS
        """Whether one record may take long, so that many belong in a thread."""
        words = set(_WORD.findall(text))
        self._getters = [(name, get) for name, get in _GETTERS.items() if name in words]
        self._max_bytes = MAX_HEAVY_BYTES if self.heavy else MAX_VALUE_BYTES if "value" in words else None
        self._direct = _direct(text)
        self._fields = _fields(text)

    def __repr__(self) -> str:
        return f"Filter({self.text!r})"

    def verdict(self, record: StoredRecord, where: TopicPartition, letter: DeadLetterFacts | None = None) -> Verdict:
        """What the expression says of a record of ``where``."""
        if self._direct is not None:
            return self._direct(record.headers)
        if self._too_large(record):
            return Verdict.ERROR
        return self._program(self._variables(record, where, letter))

    def failure(self, record: StoredRecord, where: TopicPartition, letter: DeadLetterFacts | None = None) -> str | None:
        """Why the expression fails on a record, in words for people; None where it does not."""
        if self._too_large(record):
            return f"the record has more than {self._max_bytes} bytes, which is too much for this filter"
        return cel.compile_program(self.text).failure(self._variables(record, where, letter))

    def _too_large(self, record: StoredRecord) -> bool:
        return self._max_bytes is not None and _size(record, headers=self.heavy) > self._max_bytes

    def _variables(self, record: StoredRecord, where: TopicPartition, letter: DeadLetterFacts | None) -> Mapping[str, Any]:
        variables = {name: get(record, where, letter) for name, get in self._getters}
        if self._fields is not None:
            value = variables["value"]
            if type(value) is dict:
                variables["value"] = {name: value[name] for name in self._fields if name in value}
        if letter is None:
            for name in _OF_LETTERS:
                variables.pop(name, None)
        return variables

    def matches(self, record: StoredRecord, where: TopicPartition, letter: DeadLetterFacts | None = None) -> bool:
        """Whether the verdict is MATCH."""
        return self.verdict(record, where, letter) is Verdict.MATCH


def compile_filter(text: str) -> Filter:
    """A filter from its expression. Raises FilterInvalid, with ``line`` and ``column`` where there is one."""
    size = len(text.encode(errors="surrogatepass"))
    if size > MAX_FILTER_BYTES:
        raise FilterInvalid(f"the filter is {size} bytes long; at most {MAX_FILTER_BYTES} are accepted")
    if not text.strip():
        raise FilterInvalid("the filter is empty: leave it out to get every record", line=1, column=1)
    if "\0" in text or (not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)):
        raise FilterInvalid("the filter is not text: it holds a zero or half a character")
    return Filter(text, cel.compile_program(text))


def _direct(text: str) -> Callable[[Iterable[Header]], Verdict] | None:
    """``headers.x == "y"``, the commonest of all, without building a map; it says what the expression would say."""
    found = _HEADER_IS.fullmatch(text.strip())
    if found is None:
        return None
    name, wanted = found[1] or found[2] or "", found[3]

    def verdict(headers: Iterable[Header]) -> Verdict:
        seen, last = False, None
        for header in headers:
            if header.name == name or ("\0" in header.name and _name(header.name) == name):
                seen, last = True, header.value
        if not seen:
            return Verdict.ERROR
        return Verdict.MATCH if last is not None and text_of(last) == wanted else Verdict.NO_MATCH

    return verdict


def _fields(text: str) -> frozenset[str] | None:
    """The fields of ``value`` that an expression can look at, None for any.

    The library takes in all of a value before it looks at any of it, which is most of the cost of a filter on large ones.
    """
    found = _FIELD.findall(text)
    if not found or len(found) < _WORD.findall(text).count("value"):
        return None
    return frozenset(dotted or quoted for dotted, quoted in found)


# -- variables -------------------------------------------------------------------------------------------------------


def text_of(data: bytes) -> str:
    """The text of bytes that are UTF-8 without a zero byte, else their base64."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return base64.b64encode(data).decode()
    return text if "\0" not in text else base64.b64encode(data).decode()


def _headers(record: StoredRecord, where: TopicPartition, letter: DeadLetterFacts | None) -> Mapping[str, str | None]:
    return {_name(name): None if value is None else text_of(value) for name, value in record.headers}


def _name(name: str) -> str:
    return name if "\0" not in name else text_of(name.encode())


def _value(record: StoredRecord, where: TopicPartition, letter: DeadLetterFacts | None) -> Any:
    data = record.value
    if data is None:
        return None
    try:
        parsed = _decode_json(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return text_of(data)
    return _for_cel(parsed) if _NOT_FOR_CEL.search(data) else parsed


def _for_cel(value: Any) -> Any:
    """With whole numbers beyond 64 bits as floating point, and strings with a zero byte as base64."""
    if isinstance(value, str):
        return text_of(value.encode())
    if isinstance(value, int) and not isinstance(value, bool):
        return value if -INT64_MAX - 1 <= value <= INT64_MAX else _as_float(value)
    if isinstance(value, list):
        return [_for_cel(one) for one in value]
    if isinstance(value, dict):
        return {text_of(name.encode()): _for_cel(one) for name, one in value.items()}
    return value


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _size(record: StoredRecord, *, headers: bool) -> int:
    size = len(record.value or b"")
    if headers:
        size += len(record.key or b"") + sum(len(name) + len(value or b"") for name, value in record.headers)
    return size


_GETTERS: Mapping[str, Getter] = {
    "key": lambda record, where, letter: None if record.key is None else text_of(record.key),
    "headers": _headers,
    "value": _value,
    "timestamp": lambda record, where, letter: record.timestamp_ms,
    "offset": lambda record, where, letter: record.offset,
    "partition": lambda record, where, letter: where.partition,
    "topic": lambda record, where, letter: where.topic,
    "error": lambda record, where, letter: letter and letter.error and letter.error.replace("\0", "\ufffd"),
    "failures": lambda record, where, letter: letter and letter.failures,
    "reason": lambda record, where, letter: letter and letter.reason,
}
_OF_LETTERS = ("error", "failures", "reason")
"""Not there on any other record: an expression that needs them fails on it."""
